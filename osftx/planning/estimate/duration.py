"""How long a phase will take, from the pace at which some of its steps were taken."""

from dataclasses import dataclass


@dataclass
class Pace:
    """What was measured of a phase on its ranks; seconds of wall clock."""

    start_s: float
    """Until the first step: processes, model, kept inputs, decompositions."""
    training_s_per_token: float
    """Over the tokens of all ranks; 0 where nothing is trained."""
    forward_s_per_token: float
    """Of an evaluation."""
    saving_s: float
    """The checkpoint."""


@dataclass
class Duration:
    """Estimated seconds of one phase."""

    start: float
    training: float
    measuring: float
    """Evaluation sets, validation and the inputs that the phase adds to what must be kept; no benchmarks."""
    saving: float

    @property
    def total(self) -> float:
        return self.start + self.training + self.measuring + self.saving


def duration(pace: Pace, trained_tokens: int, measured_tokens: int) -> Duration:
    """Of a phase that trains on so many tokens, each epoch counted, and measures so many without training on them."""
    return Duration(
        start=pace.start_s,
        training=pace.training_s_per_token * trained_tokens,
        measuring=pace.forward_s_per_token * measured_tokens,
        saving=pace.saving_s,
    )
