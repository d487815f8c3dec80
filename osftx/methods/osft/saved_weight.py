"""Computes the weight to save for a target, and measures of what its frozen directions kept."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.distributed.zero3 import full_master, gathered
from osftx.methods.base import Merged
from osftx.methods.osft.decomposition import leak
from osftx.methods.osft.layer import dense_update
from osftx.methods.osft.subspace import Subspace

LEAST_LEAK = 1e-3
"""Share of the update that a weight saved in fp32 may leak in any case; a correct one leaks some 1e-7."""
MARGIN = 8.0
"""How many times the rounding of a weight saved in fp32 it may leak in any case."""


def saved_weight(before: Tensor | None, blocks: Sequence[Subspace], save_dtype: torch.dtype) -> Merged:
    """Returns W0 + dW on the rank that has W0 (`before`), for a weight made of `blocks`. Collective.

    The weight is the trained one bit for bit if `save_dtype` is the precision of training. If `save_dtype` is finer, dW
    is added to W0 in fp32. The records hold for each block:

    - `name`, `shape`, `frozen_rank`, `free_rank`;
    - `relative_change`: ||dW|| / ||W0||, None for a weight of zeros;
    - `leak_fp32`: share of the trained update that lies in frozen directions;
    - `leak_saved`: the same share for the difference between the saved weights;
    - `update_norm`: ||dW||;
    - `update_kept`: <saved - W0, dW> / ||dW||^2, which is 1 if nothing was rounded away, None for no update;
    - `free_input_share`: see `UseOfKept`;
    - `kept_output_change`: see `_kept_output_change`.

    Raises ValueError if a weight in fp32 leaks more than rounding explains (`_check_leak`).
    """
    updates = [(space, space.bases(), full_master(space.update.delta)) for space in blocks]
    after = _as_trained(blocks[0].weight)
    if before is None or after is None:
        return Merged(None, [])
    finer = torch.finfo(save_dtype).eps < torch.finfo(after.dtype).eps
    after = before.to(after.device, torch.float32, copy=True) if finer else after.to(save_dtype)
    records: list[dict[str, Any]] = []
    for space, bases, held in updates:
        delta = held[:, : bases.free.shape[1]]
        old = before[space.rows].to(delta.device, torch.float32)
        trained = dense_update(space.update.on_input, bases.free, delta)
        if finer:
            after[space.rows] += trained
        saved = after[space.rows].to(save_dtype).float()
        norm, moved = float(torch.linalg.norm(old)), float(torch.linalg.norm(trained))
        records.append(
            {
                "name": space.name,
                "shape": list(space.update.shape),
                "frozen_rank": bases.frozen_rank,
                "free_rank": bases.free.shape[1],
                "relative_change": moved / norm if norm else None,
                "leak_fp32": leak(trained, bases),
                "leak_saved": leak(saved - old, bases),
                "update_norm": moved,
                "update_kept": float(((saved - old) * trained).sum()) / moved**2 if moved else None,
                "free_input_share": space.kept.free_input_share if space.kept is not None else None,
                "kept_output_change": _kept_output_change(space, delta),
            }
        )
        if save_dtype is torch.float32:
            _check_leak(records[-1], norm, float(torch.linalg.norm(saved - old)))
    return Merged(after.to("cpu", save_dtype), records)


def _check_leak(record: dict[str, Any], norm: float, change: float) -> None:
    """Raises ValueError if a weight that is saved in fp32 is not W0 + dW, as the `record` of its leaks shows.

    `norm` is ||W0||, `change` the norm of the difference between the saved weights. This difference is dW plus the
    rounding of W0 + dW, at most eps (||W0|| + ||dW||) in all. So no more than that, and what dW itself leaks, can lie
    in frozen directions. `MARGIN` and `LEAST_LEAK` cover that dW was summed in another order when it was put into the
    weight. A weight that was trained from other numbers than those in the files leaks nearly all of the difference.
    """
    moved = record["update_norm"]
    rounding = MARGIN * torch.finfo(torch.float32).eps * (norm + moved)
    if record["leak_saved"] * change > (record["leak_fp32"] + LEAST_LEAK) * moved + rounding:
        raise ValueError(
            f"{record['name']} as saved would leak {record['leak_saved']:.2g} of its change into frozen directions, "
            f"though {record['leak_fp32']:.2g} as trained: the weight that was trained is not the one in the files of "
            "the start model; save that model again with transformers' save_pretrained, and train the phase again"
        )


def _as_trained(weight: nn.Parameter) -> Tensor | None:
    """Returns the whole weight on rank 0, None on the others. Collective."""
    with gathered(weight):
        return weight.detach().clone() if dist.get_rank() == 0 else None


def _kept_output_change(space: Subspace, delta: Tensor) -> float | None:
    """Returns sqrt(E ||dW x||^2 / E ||W0 x||^2) over the inputs x to keep: the relative change of the layer's output.

    dW = delta F^T with F the trainable directions, so the numerator is tr(delta (F^T E[x x^T] F) delta^T). None if the
    rule reads no inputs, or if the layer's output for these inputs is zero.
    """
    if space.kept is None or space.kept.output_power == 0:
        return None
    moved = (delta @ space.energy.to(delta.device) * delta).sum()
    return math.sqrt(max(float(moved), 0.0) / space.kept.output_power)
