"""The samples of a phase as packed micro-batches: what each rank runs in a step.

Every rank knows the lengths of all samples and computes the same plan, so no communication is needed to agree on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from osftx.config.phase_spec import PhaseSpec
from osftx.data.formats import IGNORED_LABEL
from osftx.data.packing import pack
from osftx.data.samples import counted_tokens, load_samples, sample_lengths
from osftx.data.splitting import Split


class Samples:
    """Tokenised conversations on disk, memory-mapped: `input_ids` and which of them count.

    `chosen` (samples,): the places of those that are meant; None: all.
    """

    def __init__(self, folder: Path, chosen: np.ndarray | None = None):
        self.rows = load_samples(folder)
        self.lengths = sample_lengths(self.rows)
        self.counted = counted_tokens(self.rows)
        if chosen is not None:
            self.lengths, self.counted = self.lengths[chosen], self.counted[chosen]
            self.rows = self.rows.select(chosen)

    def __len__(self) -> int:
        return len(self.lengths)


def open_samples(spec: PhaseSpec) -> tuple[Samples, Samples | None]:
    """The samples that a phase trains on, and those that it validates on, if it does."""
    folder, validation = Path(spec.data), spec.validation
    if validation is None:
        return Samples(folder), None
    if validation.samples is not None:
        return Samples(folder), Samples(Path(validation.samples))
    assert validation.split is not None
    split = Split.load(Path(validation.split))
    return Samples(folder, split.trained), Samples(folder, split.held_out)


@dataclass(frozen=True)
class MicroBatch:
    """Samples one after the other without padding; positions start again at 0 for each, which separates them.

    All tensors are (1, tokens) except `samples` (tokens,), the place of each token's sample in `chosen`.
    """

    input_ids: Tensor
    position_ids: Tensor
    labels: Tensor
    samples: Tensor
    chosen: list[int]
    """Indices into the samples."""


@dataclass(frozen=True)
class Step:
    """One optimizer step (or one pass over an evaluation set) as this rank sees it."""

    micro_batches: Iterator[MicroBatch]
    count: int
    """Micro-batches on every rank; a rank with less work runs dummies at the end."""
    counted_tokens: int
    """Over all ranks."""
    tokens: int
    """Over all ranks."""


def plan_step(
    samples: Samples,
    chosen: np.ndarray | Sequence[int],
    max_tokens: int,
    rank: int,
    world_size: int,
    device: torch.device,
) -> Step:
    """Pack the `chosen` samples under `max_tokens` and spread them over the ranks."""
    indices = np.asarray(chosen)
    packed = pack(samples.lengths[indices], world_size, max_tokens)
    count = max(len(micro_batches) for micro_batches in packed)
    mine = [[int(indices[place]) for place in places] for places in packed[rank]]

    def batches() -> Iterator[MicroBatch]:
        for places in mine:
            yield _concatenate(samples, places, device)
        for _ in range(count - len(mine)):
            yield _dummy(device)

    return Step(batches(), count, int(samples.counted[indices].sum()), int(samples.lengths[indices].sum()))


def _concatenate(samples: Samples, places: list[int], device: torch.device) -> MicroBatch:
    input_ids: list[int] = []
    position_ids: list[int] = []
    labels: list[int] = []
    owners: list[int] = []
    for order, place in enumerate(places):
        row = samples.rows[place]
        ids, counted = row["input_ids"], row["counted"]
        input_ids += ids
        position_ids += range(len(ids))
        labels += [IGNORED_LABEL]
        labels += [token if counts else IGNORED_LABEL for token, counts in zip(ids[1:], counted[1:], strict=True)]
        owners += [order] * len(ids)

    def row_of(values: list[int]) -> Tensor:
        return torch.tensor([values], device=device)

    return MicroBatch(
        row_of(input_ids), row_of(position_ids), row_of(labels), torch.tensor(owners, device=device), places
    )


def _dummy(device: torch.device) -> MicroBatch:
    """Two tokens that count for nothing: keeps the ranks in step, since under ZeRO-3 every forward is collective."""
    zeros = torch.zeros(1, 2, dtype=torch.long, device=device)
    positions = torch.arange(2, device=device)[None]
    return MicroBatch(zeros, positions, torch.full_like(zeros, IGNORED_LABEL), zeros[0], [])
