"""DeepSpeed's engine: the group of ranks, the optimizer, the learning-rate schedule, and calls after each step."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import TypeAlias, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from transformers import get_scheduler

from osftx.config.meeting import STORE_FILE
from osftx.config.schema import DistributedConfig, TrainingConfig
from osftx.distributed.accelerator import current_device, device_kind
from osftx.distributed.gradient_bucket import gradient_bucket
from osftx.distributed.zero3 import whole_shape
from osftx.distributed.zero_config import zero_config

Engine: TypeAlias = deepspeed.DeepSpeedEngine
Scheduler: TypeAlias = torch.optim.lr_scheduler.LRScheduler


def init_distributed(timeout_s: int) -> torch.device:
    """Joins the group of ranks that the launcher describes in the environment, and returns this rank's device.

    The launcher sets RANK, LOCAL_RANK and WORLD_SIZE. The ranks of one machine meet through the file in STORE_FILE,
    those of several at MASTER_ADDR and MASTER_PORT. A collective operation fails after `timeout_s` seconds.
    """
    # This C++ extension is only used for inference, and its first build takes a minute and a half.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _import_without_compiling("deepspeed.runtime.zero.muon.muon_optimizer")
    accelerator = get_accelerator()
    accelerator.set_device(int(os.environ["LOCAL_RANK"]))
    store = os.environ.get(STORE_FILE)
    deepspeed.init_distributed(
        accelerator.communication_backend_name(),
        timeout=timedelta(seconds=timeout_s),
        init_method=None if store is None else f"file://{store}",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        verbose=False,
    )
    return current_device()


def _import_without_compiling(module: str) -> None:
    """Imports `module` while `torch.compile` is off.

    DeepSpeed checks for every optimizer whether it is Muon, and therefore imports that module. Its `torch.compile`
    would load the whole compiler, which takes seconds at every start and is never used here.
    """
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
    """Makes torch use only deterministic kernels, and fail for operations that have none.

    It must be called before any computation on a GPU.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it at its first use
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"  # transformers reads it for the backward pass
    torch.use_deterministic_algorithms(True)


def initialize(
    model: nn.Module, training: TrainingConfig, total_steps: int, distributed: DistributedConfig
) -> tuple[Engine, torch.optim.Optimizer | None, Scheduler | None]:
    """Returns the engine, the optimizer and the learning-rate schedule of a partitioned `model`. Collective.

    The parameters that require a gradient are trained for `total_steps` optimizer steps. If there are none, the
    optimizer and the schedule are None.
    """
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
    sizes = [whole_shape(parameter).numel() for parameter in trainable]
    config["zero_optimization"].setdefault("reduce_bucket_size", gradient_bucket(sizes))
    if distributed.offload.optimizer:
        config["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": device_kind() != "cpu"}
        config["zero_force_ds_cpu_optimizer"] = False  # DeepSpeed's own AdamW would have to be compiled first
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine, optimizer, scheduler


def optimizer_of(engine: Engine) -> torch.optim.Optimizer:
    """Returns the AdamW optimizer that the engine steps. Its parameters are the `flat_masters`."""
    return cast(torch.optim.Optimizer, engine.optimizer.optimizer)


def flat_masters(engine: Engine) -> list[Tensor]:
    """Returns this rank's fp32 masters of all trained parameters, as the flat tensors that the optimizer steps.

    There are several tensors if a rank trains more than 10^9 numbers.
    """
    return cast(list[Tensor], engine.optimizer.fp32_partitioned_groups_flat)


def after_each_step(engine: Engine, *calls: Callable[[], None]) -> None:
    """Registers `calls`, which are made in this order after each optimizer step, before the next forward pass.

    If a rank has several `flat_masters`, DeepSpeed steps them one after the other; the calls are made after the last.
    """
    last = flat_masters(engine)[-1]

    def stepped(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if any(parameter is last for group in optimizer.param_groups for parameter in group["params"]):
            for call in calls:
                call()

    optimizer_of(engine).register_step_post_hook(stepped)


def close(engine: Engine) -> None:
    """Destroys the engine and leaves the group of ranks, so that the process can end. Collective."""
    engine.destroy()
    dist.barrier()
    dist.destroy_process_group()
