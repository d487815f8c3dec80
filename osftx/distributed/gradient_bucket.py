"""The buffer that gathers gradients before they are sent, which ZeRO-3 holds from the start."""

from collections.abc import Iterable

USUAL_BUCKET = 50_000_000
"""Numbers."""


def gradient_bucket(trained: Iterable[int]) -> int:
    """Numbers in the fp32 buffer, from the sizes of what is trained; 0 where nothing is.

    DeepSpeed's default is 2 GB on each rank. No more than there are gradients, a tenth of the default otherwise, but
    room for the largest matrix: what does not fit is reduced by itself, in a copy.
    """
    sizes = list(trained)
    return min(sum(sizes), max(USUAL_BUCKET, *sizes)) if sizes else 0
