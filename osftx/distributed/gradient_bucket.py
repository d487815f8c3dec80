"""The size of the buffer that collects gradients before they are reduced, which ZeRO-3 holds from the start."""

from collections.abc import Iterable

USUAL_BUCKET = 50_000_000
"""Numbers in the buffer of a large model."""


def gradient_bucket(trained: Iterable[int]) -> int:
    """Returns how many numbers the fp32 buffer holds, given the sizes of the trained parameters; 0 without any.

    DeepSpeed's default takes 2 GB on each rank. The buffer returned here has room for all gradients where they are few,
    and for a tenth of the default otherwise, but always for the largest matrix: a gradient that does not fit is reduced
    by itself, in a copy.
    """
    sizes = list(trained)
    return min(sum(sizes), max(USUAL_BUCKET, *sizes)) if sizes else 0
