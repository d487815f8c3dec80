"""DeepSpeed ZeRO-3 around a transformers model: the ranks, the model in partitions, the engine, the optimizer."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from importlib import import_module

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import nn
from transformers import get_scheduler

from osftx.config.schema import DistributedConfig, TrainingConfig
from osftx.distributed.gradient_bucket import gradient_bucket
from osftx.distributed.zero_config import zero_config


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


def close(engine: deepspeed.DeepSpeedEngine) -> None:
    """Let go of the engine and of the group, so that the process ends by itself."""
    engine.destroy()
    dist.barrier()
    dist.destroy_process_group()
