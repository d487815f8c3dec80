"""Checks before the start what the first phase must keep: the record of an earlier phase, or the preserve set."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from osftx.config.schema import ExperimentConfig
from osftx.config.validate import is_missing
from osftx.data.samples import DataSummary, Prepared
from osftx.errors import ConfigurationError
from osftx.methods.covariance.index import Record, record_beside
from osftx.models.targets import Target
from osftx.utils.files import expanded

ENOUGH_TOKENS_PER_DIRECTION = 6
"""Tokens of `preserve.data` per input direction beyond which, on the tiny model, more tokens kept no more."""


def recorded_sources(model: str, targets: Sequence[Target]) -> list[str]:
    """Returns the sources of the input covariance beside the start model `model`.

    The list is empty if there is no record or no target. Raises ConfigurationError if the record is of other targets or
    another model, or cannot be read.
    """
    folder = record_beside(model)
    if folder is None or not targets:
        return []
    record = Record.load(folder)
    record.check(folder, targets, expanded(model))
    return record.sources


def check_given(config: ExperimentConfig) -> None:
    """Raises ConfigurationError if `preserve.data` is not set."""
    if is_missing(config.preserve.data.path):
        raise ConfigurationError(
            [
                "preserve.data.path: not set, but osft.subspace=activations needs data that shows what the model must "
                "keep; give a few hundred conversations like those that it answers well, or use osft.subspace=weights"
            ]
        )


def check_new(preserved: Prepared, training: Mapping[str, Prepared]) -> None:
    """Raises ConfigurationError if all of `preserve.data` is trained on; `training` is each phase's own data."""
    same = [name for name, own in training.items() if preserved.content == own.content]
    shares = [name for name, own in training.items() if _shared(preserved, own)]
    taught = np.concatenate([own.digests for own in training.values()]) if training else preserved.digests[:0]
    if shares and np.isin(preserved.digests, taught).all():
        same = shares
    if same:
        raise ConfigurationError(
            [
                f"{preserved.summary.path}: is what phase {' and phase '.join(same)} trains on, and says nothing of "
                "what must be kept; give data for what the model can do already"
            ]
        )


def check_amount(config: ExperimentConfig, data: DataSummary, targets: Sequence[Target]) -> None:
    """Raises ConfigurationError if `preserve.data` has fewer tokens than the widest input has directions."""
    tokens, directions = _tokens(config, data), _directions(targets)
    if tokens < directions:
        raise ConfigurationError(
            [
                f"{data.path}: {tokens} tokens cannot show which of {directions} input directions are used; "
                f"{_remedy(config, data)}"
            ]
        )


def advice(
    config: ExperimentConfig,
    preserved: Prepared,
    targets: Sequence[Target],
    evaluation: Mapping[str, Prepared],
    training: Mapping[str, Prepared],
) -> Iterator[str]:
    """Yields warnings about the preserve set.

    It may have too few tokens to show the used directions more than roughly, or share samples with evaluation sets or
    with training data.
    """
    data = preserved.summary
    tokens, directions = _tokens(config, data), _directions(targets)
    if tokens < ENOUGH_TOKENS_PER_DIRECTION * directions:
        yield (
            f"preserve.data: {tokens} tokens show only roughly which of {directions} input directions are used; "
            f"{_remedy(config, data)} ({ENOUGH_TOKENS_PER_DIRECTION} a direction are enough)"
        )
    for name, asked in evaluation.items():
        if shared := _shared(asked, preserved):
            yield (
                f"evaluation set {name}: {shared} of its {len(asked.digests)} samples are in preserve.data, so it "
                "shows that what was read there is kept, not what is kept beside it; take them out of one"
            )
    for name, own in training.items():
        if shared := _shared(preserved, own):
            yield (
                f"preserve.data: phase {name} trains on {shared} of its {len(preserved.digests)} samples, which say "
                "nothing of what must be kept and hold back what must be learned; take them out"
            )


def _shared(some: Prepared, others: Prepared) -> int:
    """Returns the number of samples of `some` that are also in `others`, with the same tokens."""
    return int(np.isin(some.digests, others.digests).sum())


def _tokens(config: ExperimentConfig, data: DataSummary) -> int:
    """Returns the number of tokens that are read."""
    return min(data.tokens, config.preserve.max_tokens)


def _directions(targets: Sequence[Target]) -> int:
    """Returns the number of directions of the widest input."""
    return max((target.in_features for target in targets), default=0)


def _remedy(config: ExperimentConfig, data: DataSummary) -> str:
    limit = config.preserve.max_tokens
    return f"raise preserve.max_tokens={limit}" if limit < data.tokens else "give more conversations"
