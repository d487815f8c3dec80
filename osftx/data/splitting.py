"""Holds a share of a phase's samples out of its training."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """The places of a phase's samples on both sides of the split, each (samples,) int64."""

    trained: np.ndarray
    held_out: np.ndarray

    def save(self, path: Path) -> None:
        """Writes both sides to one file, atomically: a reader never sees an incomplete file."""
        partial = path.with_name(f"{path.stem}.partial.npz")
        np.savez(partial, trained=self.trained, held_out=self.held_out)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Split":
        """Returns what `save` wrote. Raises OSError if the file is missing."""
        with np.load(path) as arrays:
            return cls(arrays["trained"], arrays["held_out"])


def split_samples(digests: np.ndarray, own: int, share: float, seed: int) -> Split:
    """Returns which samples are trained on and which are held out.

    The first `own` samples are the phase's own, of which the share `share`, rounded, is held out; replayed samples
    follow them. Contents are drawn, not places: each content is on one side only, however often it occurs and whatever
    the order of the file. `digests` (samples,) identify contents. A smaller share is a subset of a larger one.
    """
    contents = np.unique(digests[:own])
    drawn = np.random.default_rng(seed).permutation(contents)[: round(share * len(contents))]
    held_out = np.isin(digests, drawn)
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out[:own]))
