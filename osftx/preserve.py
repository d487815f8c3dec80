"""What the first phase must keep, checked before the start: the record of an earlier phase, or `preserve.data`."""

from collections.abc import Mapping, Sequence

from osftx.config import ExperimentConfig, SubspaceKind
from osftx.data.samples import DataSummary, Prepared
from osftx.errors import ConfigurationError
from osftx.osft.record import Record, record_beside
from osftx.osft.targets import Target
from osftx.validate import is_missing

ENOUGH_TOKENS_PER_DIRECTION = 6
"""On the tiny model more tokens of `preserve.data` kept no more."""


def recorded_sources(config: ExperimentConfig, model: str, targets: Sequence[Target]) -> list[str]:
    """The sources of the kept inputs beside the start model `model`; empty where there are none or none are needed.

    Raises ConfigurationError when they are of other targets, or unreadable.
    """
    folder = record_beside(model)
    if folder is None or not targets or config.osft.subspace is not SubspaceKind.activations:
        return []
    record = Record.load(folder)
    record.check(folder, targets)
    return record.sources


def check_given(config: ExperimentConfig) -> None:
    """Raise ConfigurationError where `preserve.data` is not given."""
    if is_missing(config.preserve.data.path):
        raise ConfigurationError(
            [
                "not set, but osft.subspace=activations needs data that shows what the model must keep; give a few "
                "hundred conversations like those that it answers well, or use osft.subspace=weights"
            ]
        )


def check_new(preserved: Prepared, training: Mapping[str, Prepared]) -> None:
    """Raise ConfigurationError where `preserve.data` is what a phase trains on; `training` is each one's own data."""
    for name, own in training.items():
        if preserved.content == own.content:
            raise ConfigurationError(
                [
                    f"{preserved.summary.path}: is what phase {name} trains on, and says nothing of what must be kept; "
                    "give data for what the model can do already"
                ]
            )


def check_amount(config: ExperimentConfig, data: DataSummary, targets: Sequence[Target]) -> None:
    """Raise ConfigurationError where the tokens of `preserve.data` are fewer than the directions of an input."""
    tokens, directions = _tokens(config, data), _directions(targets)
    if tokens < directions:
        raise ConfigurationError(
            [
                f"{data.path}: {tokens} tokens cannot show which of {directions} input directions are used; "
                f"{_remedy(config, data)}"
            ]
        )


def advice(config: ExperimentConfig, data: DataSummary, targets: Sequence[Target]) -> list[str]:
    """Warn where the tokens of `preserve.data` show the used directions only roughly."""
    tokens, directions = _tokens(config, data), _directions(targets)
    if tokens >= ENOUGH_TOKENS_PER_DIRECTION * directions:
        return []
    return [
        f"preserve.data: {tokens} tokens show only roughly which of {directions} input directions are used; "
        f"{_remedy(config, data)} ({ENOUGH_TOKENS_PER_DIRECTION} a direction are enough)"
    ]


def _tokens(config: ExperimentConfig, data: DataSummary) -> int:
    """Tokens that are read."""
    return min(data.tokens, config.preserve.max_tokens)


def _directions(targets: Sequence[Target]) -> int:
    """Of the widest input."""
    return max((target.in_features for target in targets), default=0)


def _remedy(config: ExperimentConfig, data: DataSummary) -> str:
    limit = config.preserve.max_tokens
    return f"raise preserve.max_tokens={limit}" if limit < data.tokens else "give more conversations"
