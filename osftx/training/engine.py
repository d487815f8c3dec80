"""DeepSpeed ZeRO-3 around a transformers model: the ranks, the model in partitions, the engine, the optimizer."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, get_scheduler
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from osftx.config import DistributedConfig, ModelConfig, Precision, TrainingConfig
from osftx.gradient_bucket import gradient_bucket
from osftx.training.attention import AUTO, choose_attention

DTYPES = {Precision.bfloat16: torch.bfloat16, Precision.float32: torch.float32}


def init_distributed(timeout_s: int) -> torch.device:
    """Join the group that the launcher has set up (RANK, WORLD_SIZE, ...); returns this rank's device."""
    # A C++ extension that only inference uses, whose first build takes a minute and a half.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _import_without_compiling("deepspeed.runtime.zero.muon.muon_optimizer")
    accelerator = get_accelerator()
    accelerator.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(
        accelerator.communication_backend_name(), timeout=timedelta(seconds=timeout_s), verbose=False
    )
    return torch.device(accelerator.current_device_name())


def _import_without_compiling(module: str) -> None:
    """DeepSpeed asks of every optimizer whether it is Muon. Its `torch.compile` would load the whole compiler:
    seconds of every start, for what nothing here uses."""
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        with suppress(ImportError):  # other versions have no such module
            import_module(module)
    finally:
        if before is None:
            del os.environ["TORCHDYNAMO_DISABLE"]
        else:
            os.environ["TORCHDYNAMO_DISABLE"] = before


def be_deterministic() -> None:
    """Have torch take deterministic kernels, or fail where there are none. Before anything runs on a GPU."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it when it is first used
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"  # transformers reads it for the backward pass
    torch.use_deterministic_algorithms(True)


def zero_config(training: TrainingConfig, distributed: DistributedConfig) -> dict[str, Any]:
    """The DeepSpeed configuration, with the user's own keys in it (`distributed.deepspeed`).

    Accumulation is driven by the trainer, so the engine is told of single batches.
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
        "steps_per_print": 1_000_000_000,  # the trainer reports
    }
    return _merged(settings, distributed.deepspeed)


def _merged(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` laid over `settings`, group by group."""
    merged = dict(settings)
    for key, value in own.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def load_model(
    folder: Path, model: ModelConfig, training: TrainingConfig, distributed: DistributedConfig
) -> PreTrainedModel:
    """The model of `folder`, partitioned over the ranks while it is read, in `train_dtype`. Collective."""
    dtype, attention = DTYPES[training.train_dtype], model.attn_implementation
    # transformers partitions only while this object lives.
    partitioned = HfDeepSpeedConfig(zero_config(training, distributed))
    loaded = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=_best_attention(folder, model, dtype) if attention == AUTO else attention,
        trust_remote_code=model.trust_remote_code,
    )
    del partitioned
    if training.use_liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=loaded)
    if training.activation_checkpointing:
        loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return loaded


def _best_attention(folder: Path, model: ModelConfig, dtype: torch.dtype) -> str | None:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    known = None  # where the model comes with code of its own
    if not (model.trust_remote_code and "AutoModelForCausalLM" in getattr(config, "auto_map", {})):
        known = AutoModelForCausalLM._model_mapping.get(type(config), None)
    architecture = cast("type[PreTrainedModel] | None", known)
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return choose_attention(architecture, get_accelerator().device_name(), dtype, capped)


def initialize(
    model: nn.Module, training: TrainingConfig, total_steps: int, distributed: DistributedConfig
) -> tuple[deepspeed.DeepSpeedEngine, torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None]:
    """Engine, optimizer and learning-rate schedule. Without a trainable parameter the last two are None."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        engine, *_ = deepspeed.initialize(model=model, config=zero_config(training, distributed))
        return engine, None, None
    optimizer = torch.optim.AdamW(
        trainable,
        lr=training.learning_rate,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
        fused=True,  # one pass over the moments instead of ten
    )
    scheduler = get_scheduler(
        training.lr_scheduler,
        optimizer,
        num_warmup_steps=training.warmup_steps,
        num_training_steps=total_steps,
        scheduler_specific_kwargs=dict(training.lr_scheduler_kwargs),
    )
    config = zero_config(training, distributed)
    sizes = [getattr(parameter, "ds_numel", parameter.numel()) for parameter in trainable]
    config["zero_optimization"].setdefault("reduce_bucket_size", gradient_bucket(sizes))
    if distributed.offload.optimizer:
        on_gpu = get_accelerator().device_name() != "cpu"
        config["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
        config["zero_force_ds_cpu_optimizer"] = False  # DeepSpeed's own AdamW must be compiled first
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine, optimizer, scheduler


def after_each_step(engine: deepspeed.DeepSpeedEngine, *calls: Callable[[], None]) -> None:
    """Have `calls` made when the optimizer has stepped, before the next forward pass.

    Where a rank trains more than 10^9 numbers DeepSpeed lets the optimizer step on one part after the other: the calls
    come after the last.
    """
    last = engine.optimizer.fp32_partitioned_groups_flat[-1]

    def stepped(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if any(parameter is last for group in optimizer.param_groups for parameter in group["params"]):
            for call in calls:
                call()

    engine.optimizer.optimizer.register_step_post_hook(stepped)


def set_parameter(parameter: nn.Parameter, value: Tensor | None) -> None:
    """Give a partitioned parameter the value that rank 0 holds, in its own precision. Collective."""
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        if dist.get_rank() == 0 and value is not None:
            parameter.data.copy_(value)


def close(engine: deepspeed.DeepSpeedEngine) -> None:
    """Let go of the engine and of the group, so that the process ends by itself."""
    engine.destroy()
    dist.barrier()
    dist.destroy_process_group()
