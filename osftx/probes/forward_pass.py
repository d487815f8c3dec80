"""Runs one forward pass of a model over some samples, for hooks to measure on, with or without an engine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from osftx.distributed.zero3 import gathered
from osftx.training.batches import Samples, plan_step
from osftx.utils.progress import progress


def read_samples(
    forward: nn.Module,
    model: nn.Module,
    samples: Samples,
    before_batch: Callable[[bool], object],
    *,
    title: str,
    max_tokens: int,
    max_tokens_per_gpu: int,
    device: torch.device,
) -> int:
    """Runs `forward` over samples drawn with a fixed seed, and returns the number of tokens read. Collective.

    `forward` is the engine of `model`, or the model itself inside `gathering`. At most `max_tokens` tokens are read,
    but always one sample, in micro-batches of `max_tokens_per_gpu` tokens. `before_batch` is called before each
    micro-batch; its argument is False for a dummy batch, which must not be counted.
    """
    chosen = _share(samples.lengths, max_tokens)
    step = plan_step(samples, chosen, max_tokens_per_gpu, dist.get_rank(), dist.get_world_size(), device)
    training = model.training
    model.eval()
    with progress(title, step.count, "batches") as bar, torch.no_grad():
        for batch in step.micro_batches:
            before_batch(bool(batch.chosen))
            forward(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, logits_to_keep=1)
            bar.update()
    model.train(training)
    return step.tokens


@contextmanager
def gathering(model: nn.Module) -> Iterator[None]:
    """Lets a partitioned model run without an engine: each module's own weights are gathered while it runs."""
    gathers: list[AbstractContextManager[object]] = []

    def enter(module: nn.Module, _: object) -> None:
        gathers.append(gathered(*module.parameters(recurse=False)))
        gathers[-1].__enter__()

    def leave(*_: object) -> None:
        gathers.pop().__exit__(None, None, None)

    hooks = []
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _share(lengths: np.ndarray, max_tokens: int) -> np.ndarray:
    """Returns the indices of randomly drawn samples, as many as fit in `max_tokens`, but at least one."""
    order = np.random.default_rng(0).permutation(len(lengths))
    count = int(np.searchsorted(np.cumsum(lengths[order]), max_tokens, side="right"))
    return order[: max(count, 1)]
