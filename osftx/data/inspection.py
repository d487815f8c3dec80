"""What a file of training samples holds, and what of it is trained on: the picture to look at before GPU hours go."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.samples import Prepared, counted_tokens, load_samples

BINS = 8
"""Of the histogram of lengths."""


@dataclass(frozen=True)
class Inspection:
    """Figures of one prepared file; tokens are counted before packing."""

    samples: int
    tokens: int
    counted: int
    """Tokens on which loss is counted."""
    duplicates: int
    """Samples whose tokens an earlier one has, too."""
    histogram: list[tuple[int, int, int]]
    """(from, to, samples): lengths in tokens, both ends included."""


def inspect(prepared: Prepared) -> Inspection:
    """Reads marks and lengths, not the tokens; `prepared` must have been written."""
    assert prepared.folder is not None
    return Inspection(
        samples=len(prepared.lengths),
        tokens=int(prepared.lengths.sum()),
        counted=int(counted_tokens(load_samples(prepared.folder)).sum()),
        duplicates=len(prepared.digests) - len(np.unique(prepared.digests)),
        histogram=_histogram(prepared.lengths.astype(np.int64)),
    )


def _histogram(lengths: np.ndarray) -> list[tuple[int, int, int]]:
    """Whole numbers of tokens a bin, the same for all bins."""
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = -(-(longest - shortest + 1) // BINS)
    counts = np.bincount((lengths - shortest) // width)
    return [
        (shortest + place * width, min(shortest + (place + 1) * width - 1, longest), int(count))
        for place, count in enumerate(counts)
    ]


def passages(prepared: Prepared, place: int, tokenizer: ChatTokenizer) -> list[tuple[str, bool]]:
    """The text of one sample in runs of tokens on which loss is counted, or is not."""
    assert prepared.folder is not None
    row = load_samples(prepared.folder)[place]
    ids, counted = row["input_ids"], [False, *row["counted"][1:]]  # nothing could predict the first token
    borders = [0, *(i for i in range(1, len(ids)) if counted[i] != counted[i - 1]), len(ids)]
    return [(tokenizer.decode(ids[start:stop]), counted[start]) for start, stop in pairwise(borders)]
