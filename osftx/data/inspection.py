"""Shows what a file of training samples holds and what of it is trained on, for a check before GPU hours are spent."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.samples import Prepared, counted_tokens, load_samples

BINS = 8
"""Number of bins of the histogram of lengths."""


@dataclass(frozen=True)
class Inspection:
    """Figures of one prepared file; tokens are counted before packing."""

    samples: int
    tokens: int
    counted: int
    """Number of tokens that the loss counts."""
    duplicates: int
    """Number of samples whose tokens equal those of an earlier sample."""
    histogram: list[tuple[int, int, int]]
    """Bins (from, to, samples) of the lengths in tokens; both bounds are inclusive."""


def inspect(prepared: Prepared) -> Inspection:
    """Returns the figures of `prepared`, which must have been written. Reads marks and lengths, not the tokens."""
    assert prepared.folder is not None
    return Inspection(
        samples=len(prepared.lengths),
        tokens=int(prepared.lengths.sum()),
        counted=int(counted_tokens(load_samples(prepared.folder)).sum()),
        duplicates=len(prepared.digests) - len(np.unique(prepared.digests)),
        histogram=_histogram(prepared.lengths.astype(np.int64)),
    )


def _histogram(lengths: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns the histogram; all bins are equally wide, a whole number of tokens."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = -(-(longest - shortest + 1) // BINS)
    counts = np.bincount((lengths - shortest) // width)
    return [
        (shortest + place * width, min(shortest + (place + 1) * width - 1, longest), int(count))
        for place, count in enumerate(counts)
    ]


def passages(prepared: Prepared, place: int, tokenizer: ChatTokenizer) -> list[tuple[str, bool]]:
    """Returns the text of one sample in runs of tokens that the loss counts, or does not count."""
    assert prepared.folder is not None
    row = load_samples(prepared.folder)[place]
    ids, counted = row["input_ids"], [False, *row["counted"][1:]]  # no token before the first one could predict it
    borders = [0, *(i for i in range(1, len(ids)) if counted[i] != counted[i - 1]), len(ids)]
    return [(tokenizer.decode(ids[start:stop]), counted[start]) for start, stop in pairwise(borders)]
