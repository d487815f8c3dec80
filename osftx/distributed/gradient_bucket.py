"""Computes the size of the buffer that collects gradients before they are reduced; ZeRO-3 allocates it at the start."""

from collections.abc import Iterable

USUAL_BUCKET = 50_000_000
"""Count of numbers in the buffer of a large model."""


def gradient_bucket(trained: Iterable[int]) -> int:
    """Returns how many numbers the fp32 buffer holds, given the sizes of the trained parameters; 0 if there are none.

    DeepSpeed's default takes 2 GB on each rank. The buffer returned here has room for all gradients if they are few,
    and otherwise for a tenth of the default, but always for the largest matrix: a gradient that does not fit is reduced
    separately, in a copy.
    """
    sizes = list(trained)
    return min(sum(sizes), max(USUAL_BUCKET, *sizes)) if sizes else 0
