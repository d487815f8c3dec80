"""Measures the subspace overlap: the share of the length of the layers' inputs that lies in trainable directions."""

from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.distributed.engine import Engine
from osftx.methods.osft.layer import FreeUpdate, OsftLinear
from osftx.probes.forward_pass import read_samples
from osftx.training.batches import Samples


def free_input_share(
    engine: Engine,
    samples: Samples,
    max_tokens_per_gpu: int,
    whose: str,
    *,
    max_tokens: int,
    device: torch.device,
) -> float:
    """Returns sqrt(E ||F^T x||^2 / E ||x||^2) over tokens of `samples`, the mean over all OSFT layers. Collective.

    x are the inputs (n,) of a layer and F its trainable directions (n, r), which must be activation-based. At most
    `max_tokens` tokens are read, in micro-batches of `max_tokens_per_gpu`. `whose`, such as "of base", completes the
    title of the progress bar.
    """
    layers = [module for module in engine.module.modules() if isinstance(module, OsftLinear)]
    sums = torch.zeros(len(layers), 2, dtype=torch.float64, device=device)
    counts = True

    def count(batch_counts: bool) -> None:
        nonlocal counts
        counts = batch_counts

    def before(place: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].flatten(0, -2)
        (update,) = cast(OsftLinear, layer).updates  # activation-based: a weight is never cut into blocks
        free = cast(FreeUpdate, update).in_free(rows)
        if counts:
            sums[place] += torch.stack([part.float().square().sum(dtype=torch.float64) for part in (free, rows)])

    hooks = [layer.register_forward_pre_hook(partial(before, place)) for place, layer in enumerate(layers)]
    try:
        read_samples(
            engine,
            engine.module,
            samples,
            count,
            title=f"measuring the subspace overlap {whose}",
            max_tokens=max_tokens,
            max_tokens_per_gpu=max_tokens_per_gpu,
            device=device,
        )
    finally:
        for hook in hooks:
            hook.remove()
    dist.all_reduce(sums)
    free, whole = sums.T
    return float((free / whole.clamp(min=torch.finfo(torch.float64).tiny)).sqrt().mean())
