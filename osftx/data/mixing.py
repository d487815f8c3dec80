"""Combines prepared data: entries of a list by their weights, and replay of earlier data.

Replay follows LAB (Sudalairaj et al., arXiv 2403.01081, section 3).

The samples that are drawn from a source depend only on the seed, the source's place in the list and its size. A smaller
draw is a subset of a larger one: the 1% of a source is contained in its 10%.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from osftx.data.samples import DataSummary, Prepared, load_samples, samples_file, write_index, write_once

ROWS_AT_A_TIME = 1000
DRAWN = "-"
"""Separator in a folder name: the hash of what was mixed stands before it, the hash of the drawn samples after it."""
DRAWN_LENGTH = 16
LENGTH = 32
"""Length in characters of the part of a folder name before the separator."""


def share_of(available: int, ratio: float) -> int:
    """Returns `ratio` times `available`, rounded up: at least one sample at a ratio above 0.

    The small term undoes binary rounding: a tenth of 30 must be 3.
    """
    return ceil(available * ratio - 1e-9)


def replayed_samples(available: int, ratio: float | None, samples: int | None) -> int:
    """Returns how many samples of a source are replayed: `samples` if it is set, otherwise the share `ratio`."""
    return samples if samples is not None else share_of(available, ratio or 0.0)


def mix(own: Prepared, replayed: Sequence[tuple[Prepared, int]], seed: int, folder: Path | None) -> Prepared:
    """Returns the phase's `own` samples together with the given number of samples of each replayed source.

    With a `folder` the result is written to a new folder inside it; `own` and all sources must then have been written,
    too. The counts of turns, dropped samples and skipped rows in the summary are those of the phase's own data.
    """
    drawn = [
        (source, np.random.default_rng([seed, place]).permutation(len(source.lengths))[:count])
        for place, (source, count) in enumerate(replayed)
    ]
    return _together([(own, np.arange(len(own.lengths))), *drawn], own.summary, folder)


def weigh(parts: Mapping[int, Prepared], weights: Sequence[float], seed: int, folder: Path | None) -> Prepared:
    """Returns the samples of all parts, each repeated according to the weight of its part.

    At a weight of 2.5 each sample occurs twice, and half of the samples, drawn with the seed, a third time. The keys of
    `parts` are places in the list of paths; places without weight are missing. `folder` as in `mix`.
    """
    summaries = [part.summary for part in parts.values()]
    summary = DataSummary(
        path=", ".join(one.path for one in summaries),
        dropped=sum(one.dropped for one in summaries),
        longest=max(one.longest for one in summaries),
        turns=dict(sum((Counter(one.turns) for one in summaries), Counter())),
        skipped=sum(one.skipped for one in summaries),
        skipped_rows=[row for one in summaries for row in one.skipped_rows],
        special_rows=sum(one.special_rows for one in summaries),
        first_special_rows=[place for one in summaries for place in one.first_special_rows],
        spelled_tokens=sorted({token for one in summaries for token in one.spelled_tokens}),
        adjusted=dict(sum((Counter(one.adjusted) for one in summaries), Counter())),
    )
    chosen = [
        (part, _repeated(len(part.lengths), weight, seed, place))
        for (place, part), weight in zip(parts.items(), weights, strict=True)
    ]
    return _together(chosen, summary, folder)


def _together(chosen: Sequence[tuple[Prepared, np.ndarray]], summary: DataSummary, folder: Path | None) -> Prepared:
    """Returns the chosen rows of each part, concatenated in the order of the parts; training shuffles them anyway."""
    lengths = np.concatenate([part.lengths[rows] for part, rows in chosen])
    digests = np.concatenate([part.digests[rows] for part, rows in chosen])
    summary = replace(
        summary,
        samples=len(lengths),
        tokens=int(lengths.sum()),
        longest_sample=int(lengths.max(initial=0)),
        highest_id=max(part.summary.highest_id for part, _ in chosen),
    )
    which = [hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest() for _, rows in chosen]
    content = _hash([f"{part.content} {rows}" for (part, _), rows in zip(chosen, which, strict=True)])
    if folder is None:
        return Prepared(None, summary, lengths, digests, content)

    def write(place: Path) -> None:
        _copy(chosen, place)
        write_index(place, summary, lengths, digests)

    # A part's folder name already encodes its content and tokenisation. What a seed has drawn stands after the dash
    # only, so that runs with different seeds are recognised as using the same data.
    names = [_folder(part).name for part, _ in chosen]
    amounts = [f"{name.partition(DRAWN)[0]} {len(rows)}" for name, (_, rows) in zip(names, chosen, strict=True)]
    drawn = [f"{name} {rows}" for name, rows in zip(names, which, strict=True)]
    target = folder / f"{_hash(amounts)}{DRAWN}{_hash(drawn)[:DRAWN_LENGTH]}"
    write_once(target, write)
    return Prepared(target, summary, lengths, digests, content)


def _repeated(available: int, weight: float, seed: int, place: int) -> np.ndarray:
    """Returns sorted row indices: each sample floor(weight) times, and some drawn samples once more."""
    times, more = divmod(share_of(available, weight), max(available, 1))
    some = np.random.default_rng([seed, place]).permutation(available)[:more]
    return np.sort(np.concatenate([np.tile(np.arange(available), times), some]))


def _copy(chosen: Sequence[tuple[Prepared, np.ndarray]], place: Path) -> None:
    """Writes the chosen rows to `place`, `ROWS_AT_A_TIME` rows at a time so that memory stays bounded."""
    with samples_file(place) as write:
        for part, rows in chosen:
            for table in load_samples(_folder(part)).select(rows).with_format("arrow").iter(ROWS_AT_A_TIME):
                for batch in table.combine_chunks().to_batches():
                    write(batch)


def _folder(part: Prepared) -> Path:
    assert part.folder is not None
    return part.folder


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:LENGTH]
