"""Hold a share of a phase's samples out of its training."""

import numpy as np


def split_samples(digests: np.ndarray, own: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the samples that are trained on, and of those that are held out, each (samples,) int64.

    The first `own` samples are the phase's own, of which `share`, rounded, is held out; what is behind them is
    replayed. Contents are drawn, not places: however often a sample occurs, on one side alone, whatever the order of
    the file. `digests` (samples,) is what tells contents apart. A smaller share is a part of a larger one.
    """
    contents = np.unique(digests[:own])
    drawn = np.random.default_rng(seed).permutation(contents)[: round(share * len(contents))]
    held_out = np.isin(digests, drawn)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out[:own])
