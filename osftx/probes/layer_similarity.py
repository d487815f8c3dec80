"""Measures how much each decoder layer changes its input: one pass over some samples, with the model as it is."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from osftx.probes.forward_pass import gathering, read_samples
from osftx.training.batches import Samples

IMPORTANCE_TOKENS = 65536
"""Maximum number of tokens that are read; more tokens hardly change the means."""


def input_output_similarity(
    model: nn.Module, layers: Iterable[str], samples: Samples, max_tokens_per_gpu: int, device: torch.device
) -> dict[str, float]:
    """Returns the mean cosine of the hidden state before and after each of the `layers`, over tokens of `samples`.

    Collective. The partitioned `model` needs no engine. All ranks return the same figures.
    """
    names = list(layers)
    sums = torch.zeros(len(names), dtype=torch.float64, device=device)
    counts = True

    def count(batch_counts: bool) -> None:
        nonlocal counts
        counts = batch_counts

    def after(place: int, _: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if counts:
            written = output if isinstance(output, Tensor) else output[0]
            sums[place] += functional.cosine_similarity(inputs[0].float(), written.float(), dim=-1).double().sum()

    hooks = [model.get_submodule(name).register_forward_hook(partial(after, i)) for i, name in enumerate(names)]
    with gathering(model):
        tokens = read_samples(
            model,
            model,
            samples,
            count,
            title="reading layers",
            max_tokens=IMPORTANCE_TOKENS,
            max_tokens_per_gpu=max_tokens_per_gpu,
            device=device,
        )
    for hook in hooks:
        hook.remove()
    dist.all_reduce(sums)
    dist.broadcast(sums, 0)  # the ranks must not choose different free ranks because of the last bits
    return dict(zip(names, (sums / tokens).tolist(), strict=True))
