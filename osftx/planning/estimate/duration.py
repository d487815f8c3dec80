"""Estimates how long a phase will take, from the measured pace of some of its steps."""

from dataclasses import dataclass


@dataclass
class Pace:
    """Wall-clock seconds of the parts of a phase, as measured on its ranks."""

    start_s: float
    """Seconds until the first step: start of the processes, model, input covariance, decompositions."""
    training_s_per_token: float
    """Seconds of training per token, over the tokens of all ranks; 0 if nothing is trained."""
    forward_s_per_token: float
    """Seconds of an evaluation per token."""
    saving_s: float
    """Seconds for saving the checkpoint."""


@dataclass
class Duration:
    """Estimated seconds of one phase."""

    start: float
    training: float
    measuring: float
    """Seconds for evaluation sets, validation and the input covariance of the phase; benchmarks are not included."""
    saving: float

    @property
    def total(self) -> float:
        return self.start + self.training + self.measuring + self.saving


def duration(pace: Pace, trained_tokens: int, measured_tokens: int) -> Duration:
    """Returns the duration of a phase.

    `trained_tokens` counts the tokens of all epochs, `measured_tokens` those that are read without training on them.
    """
    return Duration(
        start=pace.start_s,
        training=pace.training_s_per_token * trained_tokens,
        measuring=pace.forward_s_per_token * measured_tokens,
        saving=pace.saving_s,
    )
