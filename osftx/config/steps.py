"""How many optimizer steps a phase takes, and after which of them it validates. Pure numbers."""

from osftx.config.schema import PhaseConfig, TrainingConfig, ValidationConfig


def total_steps(training: TrainingConfig | PhaseConfig, samples: int) -> int:
    """Epochs follow each other without a break: the end of one may lie within a step."""
    return -(-samples * training.num_epochs // training.effective_batch_size)


def validation_steps(
    settings: ValidationConfig, training: TrainingConfig | PhaseConfig, samples: int
) -> frozenset[int]:
    """The optimizer steps after which a phase of so many samples validates; those in which an epoch ends count as its
    end."""
    last = total_steps(training, samples)
    due = {last} if settings.at_end else set()
    if settings.every_steps is not None:
        due.update(range(settings.every_steps, last + 1, settings.every_steps))
    if settings.every_epoch:
        batch = training.effective_batch_size
        due.update(-(-samples * epoch // batch) for epoch in range(1, training.num_epochs + 1))
    return frozenset(due)
