"""The number of optimizer steps of a phase, and the steps after which it validates. Pure functions."""

from osftx.config.schema import PhaseConfig, TrainingConfig, ValidationConfig


def total_steps(training: TrainingConfig | PhaseConfig, samples: int) -> int:
    """Returns the number of optimizer steps of a phase with `samples` samples.

    Epochs follow each other without a break, so the end of an epoch may lie within a step.
    """
    return -(-samples * training.num_epochs // training.effective_batch_size)


def validation_steps(
    settings: ValidationConfig, training: TrainingConfig | PhaseConfig, samples: int
) -> frozenset[int]:
    """Returns the optimizer steps after which a phase with `samples` samples validates.

    The step in which an epoch ends counts as the end of the epoch.
    """
    last = total_steps(training, samples)
    due = {last} if settings.at_end else set()
    if settings.every_steps is not None:
        due.update(range(settings.every_steps, last + 1, settings.every_steps))
    if settings.every_epoch:
        batch = training.effective_batch_size
        due.update(-(-samples * epoch // batch) for epoch in range(1, training.num_epochs + 1))
    return frozenset(due)
