"""Sets up OSFT in a partitioned model: freezes it, replaces the targets' layers, and finds and saves the bases."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from osftx.distributed.collectives import agreed
from osftx.distributed.sharded_rows import ShardedRows, row_ranges
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import gathered_to_write, partitioned, whole_shape
from osftx.methods.covariance.covariance import InputCovariance
from osftx.methods.osft.decomposition import Bases
from osftx.methods.osft.eigenvector_cache import EigenvectorCache
from osftx.methods.osft.layer import FreeUpdate, OsftLinear
from osftx.methods.osft.subspace import FoundBases, Matrix, Subspace, UseOfKept
from osftx.methods.osft.subspace_rule import SubspaceRule, stored_columns
from osftx.models.targets import Target
from osftx.utils.manifest import begin, is_whole, seal
from osftx.utils.progress import progress


def open_subspaces(
    model: nn.Module,
    targets: Sequence[Target],
    ratios: Mapping[str, float],
    rule: SubspaceRule,
    zero_config: dict[str, Any],
    source: SourceWeights,
    bases_folder: Path | None,
    covariance: InputCovariance | None,
    cache: EigenvectorCache,
    bases_on_host: bool = False,
) -> list[Subspace]:
    """Freezes `model`, makes directions of the `targets` trainable, and returns their subspaces in a fixed order.

    `ratios` holds the unfreeze ratio of each target by its name. A target with ratio 0 stays frozen, and one with ratio
    1 has its weight itself trained; neither has a subspace. The `rule` chooses the directions from the weights in their
    files (`source`) or from the `covariance` of the inputs that must be kept. With `bases_on_host` the rank's part of
    the bases is in host memory between two steps.

    The bases are saved in `bases_folder`, one safetensors file per matrix (`free`, `frozen`, `energy`, fp32;
    `kept_use`, fp64); the folder appears complete or not at all. If it exists already, its bases are used, because a
    trained update has no meaning in other bases. Collective. Raises ValueError for a target that is not a linear layer.
    """
    model.requires_grad_(False)
    for target in targets:
        _linear_layer(model, target, zero_config).weight.requires_grad_(ratios[target.name] == 1.0)
    cut = [target for target in targets if 0.0 < ratios[target.name] < 1.0]
    matrices = [matrix for target in cut for matrix in _replace(model, target, ratios[target.name], rule, zero_config)]
    if not matrices:
        return []
    unfinished = None
    if bases_folder is not None and agreed(is_whole, bases_folder):
        found = _from_folder(matrices, bases_folder)
    else:
        found = rule.find(matrices, source, covariance, cache)
        unfinished = begin(bases_folder) if bases_folder is not None and dist.get_rank() == 0 else None
    subspaces = []
    for one in found:
        if unfinished is not None:
            _save(one, unfinished)
        subspaces.append(_subspace(one, bases_on_host))
    if unfinished is not None and bases_folder is not None:
        seal(bases_folder)
    dist.barrier()
    return subspaces


def _subspace(found: FoundBases, bases_on_host: bool) -> Subspace:
    """Fills the update's basis and distributes the fp32 bases over the ranks. Collective."""
    matrix, bases, use = found
    free = functional.pad(bases.free, (0, matrix.update.columns - matrix.shape.free_rank))
    with gathered_to_write(matrix.update.basis):
        if dist.get_rank() == 0:
            matrix.update.basis.data.copy_(free)
    rows, columns = whole_shape(matrix.weight)
    weight_rows = row_ranges(rows, columns, matrix.rows)
    free_rows = row_ranges(len(bases.free), 1) if bases.on_input else weight_rows
    frozen_rows = row_ranges(len(bases.frozen), matrix.update.columns)
    return Subspace(
        matrix.shape.name,
        matrix.weight_name,
        matrix.weight,
        matrix.rows,
        weight_rows,
        matrix.update,
        matrix.shape.free_rank,
        free=ShardedRows.keep(free, free_rows, bases_on_host),
        frozen=ShardedRows.keep(bases.frozen, frozen_rows, bases_on_host),
        energy=bases.energy,
        kept=use,
    )


def _save(found: FoundBases, folder: Path) -> None:
    matrix, bases, use = found
    tensors = {"free": bases.free, "frozen": bases.frozen, "energy": bases.energy}
    if use is not None:
        tensors["kept_use"] = torch.tensor(use, dtype=torch.float64)
    save_file(tensors, folder / matrix.file)


def _from_folder(matrices: Sequence[Matrix], folder: Path) -> Iterator[FoundBases]:
    """Yields the bases in `folder`. Every rank reads them at about the same time, so they are read from disk once."""
    with progress("reading bases", total=len(matrices), unit="weights") as bar:
        for matrix in matrices:
            read = load_file(folder / matrix.file, device=str(matrix.weight.device))
            use = UseOfKept(*read["kept_use"].tolist()) if "kept_use" in read else None
            yield FoundBases(matrix, Bases(matrix.update.on_input, read["free"], read["frozen"], read["energy"]), use)
            bar.update()


def _linear_layer(model: nn.Module, target: Target, zero_config: dict[str, Any]) -> nn.Linear:
    """Returns the linear layer of the target; a Conv1D is replaced by one. Collective.

    Raises ValueError if the target is neither, or if the model has no module of its name.
    """
    try:
        layer = model.get_submodule(target.name)
    except AttributeError as error:
        raise ValueError(
            f"target {target.name} is in the model's files but not in the model as transformers builds it; save it "
            "anew with save_pretrained and start from that folder"
        ) from error
    if target.transposed and isinstance(layer, Conv1D):
        layer = _from_conv1d(layer, zero_config)
        model.set_submodule(target.name, layer)
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"target {target.name} is a {type(layer).__name__}, not a linear layer; narrow osft.target_patterns"
        )
    return layer


def _from_conv1d(conv: Conv1D, zero_config: dict[str, Any]) -> nn.Linear:
    """Returns a linear layer equivalent to `conv`, which holds its weight as (in, out). Collective."""
    columns, rows = whole_shape(conv.weight)
    with partitioned(zero_config):
        linear = nn.Linear(columns, rows, bias=False)
    with gathered_to_write(conv.weight, linear.weight):
        if dist.get_rank() == 0:
            linear.weight.data.copy_(conv.weight.data.T)
    linear.weight.requires_grad_(False)
    linear.bias = conv.bias
    return linear


def _replace(
    model: nn.Module, target: Target, ratio: float, rule: SubspaceRule, zero_config: dict[str, Any]
) -> Iterator[Matrix]:
    """Replaces the target's linear layer by an OsftLinear, and yields its matrices."""
    parent_name, _, child = target.name.rpartition(".")
    parent = model.get_submodule(parent_name)
    linear = getattr(parent, child)
    shapes = rule.updates(target, ratio)
    with partitioned(zero_config):
        updates = [
            FreeUpdate(shape.shape, stored_columns(shape.free_rank, linear.weight.dtype.itemsize), shape.on_input)
            for shape in shapes
        ]
    for update in updates:
        update.basis.requires_grad_(False)
    setattr(parent, child, OsftLinear(linear, updates))
    start = 0
    for shape, update in zip(shapes, updates, strict=True):
        rows = slice(start, start + shape.shape[0])
        start = rows.stop
        yield Matrix(shape, target.name, f"{target.name}.weight", linear.weight, rows, update)
