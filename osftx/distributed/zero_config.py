"""Builds the DeepSpeed configuration of a phase."""

from collections.abc import Mapping
from typing import Any

from osftx.config.schema import DistributedConfig, Precision, TrainingConfig


def zero_config(training: TrainingConfig, distributed: DistributedConfig) -> dict[str, Any]:
    """Returns the DeepSpeed configuration of a phase, including the user's own keys (`distributed.deepspeed`).

    The trainer decides which micro-batches form a step, so the engine is configured for steps of one micro-batch.
    """
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.max_grad_norm,
        "bf16": {"enabled": training.train_dtype is Precision.bfloat16},
        "zero_optimization": {"stage": 3},
        "zero_allow_untested_optimizer": True,
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "steps_per_print": 1_000_000_000,  # the trainer reports progress
    }
    return _merged(settings, distributed.deepspeed)


def _merged(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `settings` with the keys of `own` added or replaced, group by group."""
    merged = dict(settings)
    for key, value in own.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
