"""Rules for the training of a phase: batches, AdamW, learning-rate schedules."""

from collections.abc import Iterator

from osftx.config.schema import Accelerator, ExperimentConfig, PhaseConfig, TrainingConfig
from osftx.config.validate.ranges import DECAY, above, at_least, between, out_of_range

TRAINING_RANGES = {
    "num_epochs": at_least(1),
    "effective_batch_size": at_least(1),
    "max_seq_len": at_least(2),  # the first token has no loss
    "learning_rate": above(0),
    "warmup_steps": at_least(0),
    "beta1": DECAY,
    "beta2": DECAY,
    "eps": above(0),
    "weight_decay": at_least(0),
    "max_grad_norm": at_least(0),
    "seed": between(0, 2**32 - 1),  # the seeds that numpy accepts
}

# The schedules of transformers that need only the step counts, and the `lr_scheduler_kwargs` that each of them reads
# (transformers/optimization.py). Other arguments would be dropped silently, or fail after the ranks have started.
LR_SCHEDULERS: dict[str, set[str]] = {
    "linear": set(),
    "cosine": {"num_cycles"},
    "cosine_with_restarts": {"num_cycles"},
    "polynomial": {"lr_end", "power"},
    "constant": set(),
    "constant_with_warmup": set(),
    "inverse_sqrt": {"timescale"},
    "cosine_with_min_lr": {"num_cycles", "min_lr", "min_lr_rate"},
    "warmup_stable_decay": {
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        "num_cycles",
    },
}


def _training(config: ExperimentConfig) -> Iterator[str]:
    on_cpu = config.distributed.accelerator is Accelerator.cpu
    defaults = list(_training_problems("training", config.training, on_cpu))
    yield from defaults
    for name, phase in config.phases.items():
        for problem in _training_problems(f"phases.{name}", phase, on_cpu):
            # A problem that a phase inherits is already reported for `training`.
            if problem.replace(f"phases.{name}.", "training.") not in defaults:
                yield problem


def _training_problems(path: str, settings: TrainingConfig | PhaseConfig, on_cpu: bool) -> Iterator[str]:
    """Yields problems of `settings` at `path`: the `training` group, or a phase, which has the same keys."""
    yield from out_of_range(path, settings, TRAINING_RANGES, TrainingConfig())
    longest, room = settings.max_seq_len, settings.max_tokens_per_gpu
    if longest > room:
        yield (
            f"{path}.max_tokens_per_gpu={room}: too few for a sample of max_seq_len={longest}; "
            f"set {path}.max_tokens_per_gpu={longest} or more, or {path}.max_seq_len={room} or less"
        )
    if on_cpu and settings.use_liger:
        yield (
            f"{path}.use_liger=true: Liger's kernels need a GPU, but distributed.accelerator=cpu; "
            f"set {path}.use_liger=false"
        )
    yield from _lr_scheduler_problems(path, settings)


def _lr_scheduler_problems(path: str, settings: TrainingConfig | PhaseConfig) -> Iterator[str]:
    scheduler, kwargs = settings.lr_scheduler, settings.lr_scheduler_kwargs
    if scheduler not in LR_SCHEDULERS:
        yield f"{path}.lr_scheduler={scheduler}: unknown; use one of {', '.join(LR_SCHEDULERS)}"
        return
    # The key is set as a whole: `++phases.x.lr_scheduler_kwargs.y=1` would follow the interpolation to every phase.
    set_kwargs = f"set ++{path}.lr_scheduler_kwargs"
    if unread := sorted(kwargs.keys() - LR_SCHEDULERS[scheduler]):
        allowed = ", ".join(sorted(LR_SCHEDULERS[scheduler])) or "no arguments"
        yield f"{path}.lr_scheduler_kwargs={kwargs}: {scheduler} takes {allowed}; remove {', '.join(unread)}"
    if scheduler == "constant" and settings.warmup_steps > 0:
        yield (
            f"{path}.warmup_steps={settings.warmup_steps}: lr_scheduler=constant has no warm-up; "
            f"set {path}.lr_scheduler=constant_with_warmup, or {path}.warmup_steps=0"
        )
    if scheduler == "cosine_with_min_lr" and len(kwargs.keys() & {"min_lr", "min_lr_rate"}) != 1:
        yield (
            f"{path}.lr_scheduler_kwargs={kwargs}: cosine_with_min_lr needs one of min_lr, min_lr_rate; "
            f"{set_kwargs}={{min_lr_rate:0.1}}"
        )
    if scheduler == "warmup_stable_decay" and "num_decay_steps" not in kwargs:
        yield (
            f"{path}.lr_scheduler_kwargs={kwargs}: warmup_stable_decay needs num_decay_steps; "
            f"{set_kwargs}={{num_decay_steps:STEPS}}"
        )


RULES = (_training,)
