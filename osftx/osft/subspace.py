"""Open the free subspaces of a model that ZeRO-3 has partitioned: decompose, put the layers in, keep the bases.

The weights go round in groups of `world_size`: each is gathered alone, each rank decomposes one of the group. So the
work is shared, and no rank ever holds more than two full weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
    model: nn.Module,
    targets: Sequence[Target],
    ratio: float,
    zero_config: dict[str, Any],
    bases_folder: Path | None,
) -> list[Subspace]:
    """Freeze `model`, make the free directions of `targets` trainable, return their subspaces in a fixed order.

    Ratio 0 leaves everything frozen, ratio 1 trains the target weights themselves: both without a subspace.
    Collective. Writes one safetensors file a matrix (`free_short`, `frozen_long`, fp32) to `bases_folder`. Raises
    ValueError for a target that is no linear layer.
    """
    model.requires_grad_(False)
    linear_layers = [_linear_layer(model, target) for target in targets]
    if ratio == 0.0:
        return []
    if ratio == 1.0:
        for layer in linear_layers:
            layer.weight.requires_grad_(True)
        return []
    matrices = [matrix for target in targets for matrix in _replace(model, target, ratio, zero_config)]
    if bases_folder is not None and dist.get_rank() == 0:
        bases_folder.mkdir(parents=True, exist_ok=True)
    subspaces = []
    for matrix, bases in zip(matrices, _decompose_all(matrices), strict=True):
        with deepspeed.zero.GatheredParameters([matrix.update.basis], modifier_rank=0):
            if dist.get_rank() == 0:
                matrix.update.basis.data.copy_(bases.free_short)
        if bases_folder is not None and dist.get_rank() == 0:
            save_file(
                {"free_short": bases.free_short, "frozen_long": bases.frozen_long},
                bases_folder / f"{matrix.name}.safetensors",
            )
        free_short = ShardedRows.keep(bases.free_short, cut_columns=1)
        frozen_long = ShardedRows.keep(bases.frozen_long, cut_columns=matrix.update.rank)
        subspaces.append(Subspace(matrix.name, matrix.weight_name, matrix.rows, matrix.update, free_short, frozen_long))
    return subspaces


class _Matrix(NamedTuple):
    """One matrix to decompose: `rows` of a partitioned weight, and the update that its free directions go to."""

    name: str
    weight_name: str
    weight: nn.Parameter
    rows: slice
    update: FreeUpdate

    @property
    def frozen_rank(self) -> int:
        return min(self.update.shape) - self.update.rank


def _linear_layer(model: nn.Module, target: Target) -> nn.Linear:
    """Raises ValueError when the model has no linear layer of that name."""
    try:
        layer = model.get_submodule(target.name)
    except AttributeError as error:
        raise ValueError(
            f"target {target.name} is in the model's files but not in the model as transformers builds it; save it "
            "anew with save_pretrained and start from that folder"
        ) from error
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"target {target.name} is a {type(layer).__name__}, not a linear layer; narrow osft.target_patterns"
        )
    return layer


def _replace(model: nn.Module, target: Target, ratio: float, zero_config: dict[str, Any]) -> Iterator[_Matrix]:
    """Put an OsftLinear in the place of the target's linear layer."""
    parent_name, _, child = target.name.rpartition(".")
    parent = model.get_submodule(parent_name)
    linear = getattr(parent, child)
    with deepspeed.zero.Init(config_dict_or_path=zero_config):
        updates = [FreeUpdate(shape, min(shape) - frozen_rank(min(shape), ratio)) for shape in target.blocks]
    for update in updates:
        update.basis.requires_grad_(False)
    setattr(parent, child, OsftLinear(linear, updates))
    start = 0
    for index, update in enumerate(updates):
        rows = slice(start, start + update.shape[0])
        start = rows.stop
        yield _Matrix(target.block_name(index), f"{target.name}.weight", linear.weight, rows, update)


def _decompose_all(matrices: Sequence[_Matrix]) -> Iterator[Decomposition]:
    """Yield the bases of each matrix, on every rank; the ranks decompose `world_size` of them at the same time."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    with progress("decomposing", total=len(matrices), unit="weights") as bar:
        for first in range(0, len(matrices), world_size):
            group = matrices[first : first + world_size]
            mine: Decomposition | None = None
            own_weight: Tensor | None = None
            for owner, matrix in enumerate(group):
                with deepspeed.zero.GatheredParameters([matrix.weight]):
                    if owner == rank:
                        own_weight = matrix.weight.data[matrix.rows].to(torch.float32, copy=True)
            if own_weight is not None:
                mine = decompose(own_weight, group[rank].frozen_rank)
            for owner, matrix in enumerate(group):
                yield _broadcast(mine if owner == rank else None, matrix, owner)
                bar.update()


def _broadcast(bases: Decomposition | None, matrix: _Matrix, owner: int) -> Decomposition:
    """The owner's bases, on every rank."""
    if bases is None:
        short, long = sorted(matrix.update.shape)
        device = matrix.weight.device
        bases = Decomposition(
            torch.empty(short, matrix.update.rank, device=device), torch.empty(long, matrix.frozen_rank, device=device)
        )
    dist.broadcast(bases.free_short, owner)
    dist.broadcast(bases.frozen_long, owner)
    return bases
