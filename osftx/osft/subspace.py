"""Open the free subspaces of a model that ZeRO-3 has partitioned: decompose, put the layers in, keep the bases.

The weights go round in groups of `world_size`: each is gathered alone, each rank decomposes one of the group. So the
work is shared, and no rank ever holds more than two full weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from osftx.osft.decomposition import Decomposition, decompose
from osftx.osft.layer import FreeUpdate, OsftLinear
from osftx.osft.sharding import ShardedRows
from osftx.osft.targets import Target, frozen_rank
from osftx.progress import progress


@dataclass
class Subspace:
    """The free subspace of one matrix of shape (m, n): the trained update and, spread over the ranks, its fp32 bases.

    ZeRO-3 holds a bf16 copy of the short-side basis for the forward pass; the projection and the export need the
    exact one, since bf16 bases alone would leak about 1e-3.
    """

    name: str
    weight_name: str
    """The tensor in the checkpoint that this matrix is (a block of rows of)."""
    rows: slice
    """The matrix's rows within that tensor."""
    update: FreeUpdate
    free_short: ShardedRows
    """(s, r)"""
    frozen_long: ShardedRows
    """(L, k), cut where ZeRO-3 cuts `delta` (L, r), so that the projection finds its rows at hand."""

    def bases(self) -> Decomposition:
        """The whole bases, on every rank. Collective."""
        return Decomposition(self.free_short.gather(), self.frozen_long.gather())


def open_subspaces(
    model: nn.Module, targets: Sequence[Target], ratio: float, zero_config: dict[str, Any], bases_folder: Path | None
) -> list[Subspace]:
    """Freeze `model`, make the free directions of `targets` trainable, return their subspaces in a fixed order.

    Ratio 0 leaves everything frozen, ratio 1 trains the target weights themselves: both without a subspace.
    Collective. Writes one safetensors file a matrix (`free_short`, `frozen_long`, fp32) to `bases_folder`.
    """
    model.requires_grad_(False)
    if ratio == 0.0:
        return []
    if ratio == 1.0:
        for target in targets:
            model.get_submodule(target.name).weight.requires_grad_(True)
        return []
    layers = {target.name: _replace(model, target, ratio, zero_config) for target in targets}
    blocks = [
        (target.block_name(i), target.name, rows, layers[target.name].updates[i])
        for target in targets
        for i, rows in enumerate(_block_rows(target))
    ]
    subspaces = []
    for (name, module, rows, update), bases in zip(
        blocks, _decompose_all([(layers[module].weight, rows, update) for _, module, rows, update in blocks]), strict=True
    ):
        with deepspeed.zero.GatheredParameters([update.basis], modifier_rank=0):
            if dist.get_rank() == 0:
                update.basis.data.copy_(bases.free_short)
        if bases_folder is not None and dist.get_rank() == 0:
            bases_folder.mkdir(parents=True, exist_ok=True)
            tensors = {"free_short": bases.free_short, "frozen_long": bases.frozen_long}
            save_file({key: value.contiguous() for key, value in tensors.items()}, bases_folder / f"{name}.safetensors")
        subspaces.append(
            Subspace(
                name,
                f"{module}.weight",
                rows,
                update,
                ShardedRows.keep(bases.free_short, cut_columns=1),
                ShardedRows.keep(bases.frozen_long, cut_columns=update.delta.ds_shape[1]),
            )
        )
    return subspaces


def _replace(model: nn.Module, target: Target, ratio: float, zero_config: dict[str, Any]) -> OsftLinear:
    parent_name, _, child = target.name.rpartition(".")
    parent = model.get_submodule(parent_name)
    with deepspeed.zero.Init(config_dict_or_path=zero_config):
        updates = [FreeUpdate(shape, min(shape) - frozen_rank(min(shape), ratio)) for shape in target.blocks]
    for update in updates:
        update.basis.requires_grad_(False)
    layer = OsftLinear(getattr(parent, child), updates)
    setattr(parent, child, layer)
    return layer


def _block_rows(target: Target) -> Iterator[slice]:
    start = 0
    for rows, _ in target.blocks:
        yield slice(start, start + rows)
        start += rows


def _decompose_all(work: Sequence[tuple[nn.Parameter, slice, FreeUpdate]]) -> Iterator[Decomposition]:
    """Yield the bases of each matrix, on every rank; the ranks decompose `world_size` of them at the same time."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    with progress("decomposing", total=len(work), unit="weights") as bar:
        for first in range(0, len(work), world_size):
            group = work[first : first + world_size]
            mine: Tensor | None = None
            for owner, (weight, rows, _) in enumerate(group):
                with deepspeed.zero.GatheredParameters([weight]):
                    if owner == rank:
                        mine = weight.data[rows].float()
            own_bases = None if mine is None else decompose(mine, _frozen(group[rank][2]))
            for owner, (weight, _, update) in enumerate(group):
                yield _broadcast(own_bases if owner == rank else None, update, owner, weight.device)
                bar.update()


def _frozen(update: FreeUpdate) -> int:
    return min(update.shape) - update.basis.ds_shape[1]


def _broadcast(bases: Decomposition | None, update: FreeUpdate, owner: int, device: torch.device) -> Decomposition:
    if bases is None:
        short, long = min(update.shape), max(update.shape)
        free_rank = update.basis.ds_shape[1]
        bases = Decomposition(
            torch.empty(short, free_rank, device=device), torch.empty(long, short - free_rank, device=device)
        )
    dist.broadcast(bases.free_short, owner)
    dist.broadcast(bases.frozen_long, owner)
    return bases
