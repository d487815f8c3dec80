"""Replay: samples of earlier data mixed into a phase's own, as in LAB (Sudalairaj et al., arXiv 2403.01081, section 3).

Which ones are drawn depends on the seed, the source's place and its size alone, and fewer are the beginning of more:
1% of a source is part of 10% of it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from osftx.data.prepare import Prepared, load_samples, unfinished, write_index, write_samples


def replayed_samples(available: int, ratio: float | None, samples: int | None) -> int:
    """How many of a source's samples are replayed; at least one at a ratio above 0.

    The small term undoes binary rounding: a tenth of 30 must be 3.
    """
    return samples if samples is not None else ceil(available * (ratio or 0.0) - 1e-9)


def mix(own: Prepared, replayed: Sequence[tuple[Prepared, int]], seed: int, folder: Path | None) -> Prepared:
    """The phase's `own` samples and, behind them, as many of each replayed source as is said.

    The order does not matter: training shuffles. With a `folder` they are written to one inside it, named by what is
    mixed and, behind a dash, by the seed; all that is given must have been written, too. `dropped` and `longest` are
    those of the phase's own file.
    """
    drawn = [
        (source, np.random.default_rng([seed, place]).permutation(len(source.lengths))[:count])
        for place, (source, count) in enumerate(replayed)
    ]
    lengths = np.concatenate([own.lengths, *(source.lengths[rows] for source, rows in drawn)])
    digests = np.concatenate([own.digests, *(source.digests[rows] for source, rows in drawn)])
    summary = replace(
        own.summary,
        samples=len(lengths),
        tokens=int(lengths.sum()),
        longest_sample=int(lengths.max()),
        highest_id=max(part.summary.highest_id for part in (own, *(source for source, _ in replayed))),
    )
    if folder is None:
        return Prepared(None, summary, lengths, digests)
    target = folder / f"{_content(own, replayed)}-{seed}"
    if not target.exists():
        with unfinished(target) as place:
            write_samples(_rows(own, drawn), place)
            write_index(place, summary, lengths, digests)
    return Prepared(target, summary, lengths, digests)


def _rows(own: Prepared, drawn: Sequence[tuple[Prepared, np.ndarray]]) -> Iterator[Mapping[str, object]]:
    assert own.folder is not None
    yield from load_samples(own.folder)
    for source, rows in drawn:
        assert source.folder is not None
        yield from load_samples(source.folder).select(rows)


def _content(own: Prepared, replayed: Sequence[tuple[Prepared, int]]) -> str:
    """The folders of tokenised samples are named by their content."""
    parts = [source.folder.name + f" {count}" for source, count in replayed if source.folder is not None]
    assert own.folder is not None
    return hashlib.sha256(" ".join([own.folder.name, *parts]).encode()).hexdigest()[: len(own.folder.name)]
