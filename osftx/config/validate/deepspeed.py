"""Rules for `distributed.deepspeed`: keys of a DeepSpeed configuration that osftx passes on or sets itself.

DeepSpeed ignores unknown top-level keys, and refuses unknown keys of `zero_optimization` only after the ranks have
started.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from osftx.config.schema import ExperimentConfig

PATH = "distributed.deepspeed"
ZERO = "zero_optimization"
BATCH = "set training.effective_batch_size and training.max_tokens_per_gpu"
SUMS = "gradients are added up in fp32, by which one rank and several train alike"
MERGED = "osftx merges what it trains into the weights on the ranks' devices"
NAMES = "osftx saves plain Hugging Face folders itself"

TOP_LEVEL = frozenset(
    {
        "aio",
        "comms_logger",
        "csv_monitor",
        "disable_python_gc",
        "dump_state",
        "flops_profiler",
        "log_level",
        "memory_breakdown",
        "steps_per_print",
        "tensorboard",
        "timers",
        "wall_clock_breakdown",
        ZERO,
    }
)
OWNED = {
    "train_batch_size": BATCH,
    "train_micro_batch_size_per_gpu": BATCH,
    "gradient_accumulation_steps": BATCH,
    "gradient_clipping": "set training.max_grad_norm",
    "bf16": "set training.train_dtype",
    "fp16": "set training.train_dtype",
    "amp": "set training.train_dtype",
    "torch_autocast": "set training.train_dtype",
    "optimizer": "set training.learning_rate, beta1, beta2, eps and weight_decay",
    "scheduler": "set training.lr_scheduler and training.warmup_steps",
    "activation_checkpointing": "set training.activation_checkpointing",
    "checkpoint": "set checkpointing",
    "data_types": SUMS,
    "communication_data_type": SUMS,
    "prescale_gradients": SUMS,
    "gradient_predivide_factor": SUMS,
    "zero_allow_untested_optimizer": "the optimizer is torch's AdamW",
    "zero_force_ds_cpu_optimizer": "the optimizer is torch's AdamW",
}
"""Top-level keys that a user cannot set, each with the reason or with what to set instead."""

ZERO_KEYS = frozenset(
    {
        "allgather_bucket_size",
        "allgather_partitions",
        "allgather_sequential",
        "contiguous_gradients",
        "enable_sanity_checks",
        "ignore_unused_parameters",
        "leaf_module",
        "log_trace_cache_warnings",
        "max_live_parameters",
        "max_reuse_distance",
        "model_persistence_threshold",
        "module_granularity_threshold",
        "overlap_comm",
        "param_persistence_threshold",
        "parameter_alignment",
        "prefetch_bucket_size",
        "reduce_bucket_size",
        "reduce_scatter",
        "round_robin_gradients",
        "stage3_allgather_sequential",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "stage3_model_persistence_threshold",
        "stage3_module_granularity_threshold",
        "stage3_param_persistence_threshold",
        "stage3_prefetch_bucket_size",
        "stage3_use_all_reduce_for_fetch_params",
        "sub_group_size",
        "use_all_reduce_for_fetch_params",
        "use_multi_rank_bucket_allreduce",
    }
)
OWNED_ZERO = {
    "stage": "osftx is made for stage 3",
    "offload_optimizer": "set distributed.offload.optimizer",
    "cpu_offload": "set distributed.offload.optimizer",
    "cpu_offload_use_pin_memory": "set distributed.offload.optimizer",
    "zenflow": "set distributed.offload.optimizer",
    "offload_param": MERGED,
    "cpu_offload_param": MERGED,
    "override_module_apply": MERGED,
    "memory_efficient_linear": MERGED,
    "zero_quantized_weights": "what is trained would not be what is saved",
    "zero_quantized_nontrainable_weights": "what is trained would not be what is saved",
    "zero_quantized_gradients": SUMS,
    "compute_grad_norm": "set training.max_grad_norm",
    "gather_16bit_weights_on_model_save": NAMES,
    "stage3_gather_16bit_weights_on_model_save": NAMES,
    "stage3_gather_fp16_weights_on_model_save": NAMES,
    "elastic_checkpoint": NAMES,
    "pipeline_loading_checkpoint": NAMES,
    "load_from_fp32_weights": NAMES,
    "legacy_stage1": "osftx is made for stage 3",
    "zero_hpz_partition_size": "DeepSpeed makes its groups once, and osftx partitions a model in several parts",
    "save_muon_momentum_buffer_in_memory": "the optimizer is torch's AdamW",
}


def _deepspeed(config: ExperimentConfig) -> Iterator[str]:
    own = config.distributed.deepspeed
    yield from _refused(PATH, own, TOP_LEVEL, OWNED)
    zero = own.get(ZERO, {})
    if isinstance(zero, Mapping):
        yield from _refused(f"{PATH}.{ZERO}", zero, ZERO_KEYS, OWNED_ZERO)
    else:
        yield f"{PATH}.{ZERO}={zero}: must be a group of keys, such as {ZERO}.overlap_comm=true; remove it"


def _refused(path: str, keys: Mapping[str, Any], passed_on: Iterable[str], owned: Mapping[str, str]) -> Iterator[str]:
    for key, value in keys.items():
        if key in owned:
            yield f"{path}.{key}={value}: osftx decides this itself; {owned[key]}; remove it here"
        elif key not in passed_on:
            close = get_close_matches(str(key), passed_on)  # a key in a YAML file may be a number
            meant = f"did you mean {' or '.join(close)}?" if close else f"the keys are {', '.join(sorted(passed_on))}"
            yield f"{path}.{key}={value}: no key of DeepSpeed that osftx passes on; {meant}"


RULES = (_deepspeed,)
