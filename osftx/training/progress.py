"""How far the training of a phase has come."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counts what a phase has trained so far. It is a part of every save."""

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    duration_s: float = 0.0
    """Seconds that the phase has taken in processes that have ended since."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """`step`, `loss` and `token_accuracy` of each measurement so far on samples that are not trained on."""
