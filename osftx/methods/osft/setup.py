"""Sets up OSFT on a model that ZeRO-3 has partitioned: finds the free subspaces, inserts the layers, keeps the bases.

The matrices are decomposed in groups of one matrix for each rank. This shares the work, and no rank ever holds more
than two full weights or, where activations decide, one weight beside a second moment and its eigenvectors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from osftx.config.schema import SubspaceKind
from osftx.distributed.collectives import agreed
from osftx.distributed.partition import Range
from osftx.distributed.sharded_rows import ShardedRows, row_ranges
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import Partitioned, gathered, gathered_to_write, partitioned, whole_shape
from osftx.methods.covariance.covariance import KeptInputs, owners
from osftx.methods.osft.decomposition import (
    Bases,
    input_share,
    input_vectors,
    short_side_vectors,
    split_by_inputs,
    split_by_weight,
)
from osftx.methods.osft.eigenvector_cache import Eigenvectors
from osftx.methods.osft.layer import FreeUpdate, OsftLinear
from osftx.methods.osft.ranks import UpdateShape, stored_columns, update_shapes
from osftx.models.targets import Target
from osftx.utils.manifest import begin, is_whole, seal
from osftx.utils.progress import progress


class KeptUse(NamedTuple):
    """How the kept inputs x use a matrix W0 and its free directions F."""

    output_power: float
    """E ||W0 x||^2."""
    free_input_share: float
    """sqrt(E ||F^T x||^2 / E ||x||^2): the share of the kept inputs that the update acts on."""


@dataclass
class Subspace:
    """The free subspace of one matrix of shape (m, n): its trained update and its distributed fp32 bases.

    ZeRO-3 holds a copy of the free basis in the precision of training. The projection, the merging and the export need
    the fp32 one, since bfloat16 bases would leak about 1e-3. Sizes are named as in `decomposition.Bases`.
    """

    name: str
    weight_name: str
    """The tensor of the checkpoint of which this matrix is the whole or a block of rows."""
    weight: Partitioned
    """That tensor in the model: W0 + dW during the training."""
    rows: slice
    """The matrix's rows within that tensor."""
    weight_rows: list[Range]
    """By rank: the rows of the matrix, counted from its first, that the rank's shard of the weight touches."""
    update: FreeUpdate
    free_rank: int
    """r, the number of free directions; the update stores them in c columns."""
    free: ShardedRows
    """(d, c), with the columns behind r zero. On the output side its rows are distributed like those of the weight, so
    that the merging needs no communication."""
    frozen: ShardedRows
    """(e, k), with its rows distributed like those of `delta` (e, c), so that the projection gathers nothing."""
    energy: Tensor
    """`Bases.energy`: (r, r) on every rank; (0, 0) where the weight has chosen the directions."""
    kept: KeptUse | None
    """None where the weight has chosen the directions."""

    def bases(self) -> Bases:
        """Returns the whole bases, without filled-up columns, on every rank. Collective."""
        free = self.free.gather()[:, : self.free_rank]
        return Bases(self.update.on_input, free, self.frozen.gather(), self.energy)


def open_subspaces(
    model: nn.Module,
    targets: Sequence[Target],
    ratios: Mapping[str, float],
    zero_config: dict[str, Any],
    source: SourceWeights,
    bases_folder: Path | None,
    kept: KeptInputs | None,
    eigenvectors: Eigenvectors,
    bases_on_host: bool = False,
) -> list[Subspace]:
    """Freezes `model`, makes the free directions of `targets` trainable, and returns their subspaces. Collective.

    `ratios` holds the unfreeze ratio of each target by its name, `source` the weights as they are in the files. The
    inputs in `kept` choose the directions; where that is None, the weights do. A target with ratio 0 stays frozen, and
    with ratio 1 its weight itself is trained; neither has a subspace. The order of the subspaces is always the same.
    With `bases_on_host` each rank's part of the bases lies in host memory between two steps.

    The bases are written to `bases_folder`, one safetensors file for each matrix (`free`, `frozen` and `energy` in
    fp32, `kept_use` in fp64). The folder appears whole or not at all. Where it exists already, its bases are read
    instead of computed, since an update that was trained has a meaning in its own bases alone.

    Raises ValueError for a target that is not a linear layer.
    """
    model.requires_grad_(False)
    kind = SubspaceKind.weights if kept is None else SubspaceKind.activations
    for target in targets:
        _linear_layer(model, target, zero_config).weight.requires_grad_(ratios[target.name] == 1.0)
    cut = [target for target in targets if 0.0 < ratios[target.name] < 1.0]
    matrices = [matrix for target in cut for matrix in _replace(model, target, ratios[target.name], kind, zero_config)]
    if not matrices:
        return []
    unfinished = None
    if bases_folder is not None and agreed(is_whole, bases_folder):
        found = _from_folder(matrices, bases_folder)
    else:
        found = (
            _by_weights(matrices, source, eigenvectors)
            if kept is None
            else _by_inputs(matrices, source, kept, eigenvectors)
        )
        unfinished = begin(bases_folder) if bases_folder is not None and dist.get_rank() == 0 else None
    subspaces = []
    for matrix, bases, use in found:
        free = functional.pad(bases.free, (0, matrix.update.columns - matrix.shape.free_rank))
        with gathered_to_write(matrix.update.basis):
            if dist.get_rank() == 0:
                matrix.update.basis.data.copy_(free)
        if unfinished is not None:
            tensors = {"free": bases.free, "frozen": bases.frozen, "energy": bases.energy}
            if use is not None:
                tensors["kept_use"] = torch.tensor(use, dtype=torch.float64)
            save_file(tensors, unfinished / matrix.file)
        rows, columns = whole_shape(matrix.weight)
        weight_rows = row_ranges(rows, columns, matrix.rows)
        free_rows = row_ranges(len(bases.free), 1) if bases.on_input else weight_rows
        frozen_rows = row_ranges(len(bases.frozen), matrix.update.columns)
        subspaces.append(
            Subspace(
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
        )
    if unfinished is not None and bases_folder is not None:
        seal(bases_folder)
    dist.barrier()
    return subspaces


class _Matrix(NamedTuple):
    """A matrix whose subspace is to be found: some `rows` of a partitioned weight, and the update of them."""

    shape: UpdateShape
    module_name: str
    weight_name: str
    weight: Partitioned
    rows: slice
    update: FreeUpdate

    @property
    def file(self) -> str:
        return f"{self.shape.name}.safetensors"


def _linear_layer(model: nn.Module, target: Target, zero_config: dict[str, Any]) -> nn.Linear:
    """Returns the target's linear layer; a Conv1D is replaced by one. Collective. Raises ValueError for others."""
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
    """Returns a linear layer that computes the same. A Conv1D holds its weight as (in, out)."""
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
    model: nn.Module, target: Target, ratio: float, kind: SubspaceKind, zero_config: dict[str, Any]
) -> Iterator[_Matrix]:
    """Replaces the target's linear layer by an OsftLinear, and yields its matrices."""
    parent_name, _, child = target.name.rpartition(".")
    parent = model.get_submodule(parent_name)
    linear = getattr(parent, child)
    shapes = update_shapes(target, ratio, kind)
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
        yield _Matrix(shape, target.name, f"{target.name}.weight", linear.weight, rows, update)


_Found = tuple[_Matrix, Bases, KeptUse | None]
"""A matrix, its bases and what the kept inputs use of it, on every rank."""


def _by_weights(matrices: Sequence[_Matrix], source: SourceWeights, eigenvectors: Eigenvectors) -> Iterator[_Found]:
    """Finds bases whose free directions are the smallest singular directions of each weight. Collective."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    with progress("decomposing", total=len(matrices), unit="weights") as bar:
        for first in range(0, len(matrices), world_size):
            group = matrices[first : first + world_size]
            whole = [_gather(matrix, source, owner) for owner, matrix in enumerate(group)]
            mine = whole[rank] if rank < len(group) else None
            own = None
            if mine is not None:
                vectors = eigenvectors.of("gram", mine, partial(short_side_vectors, mine))
                own = split_by_weight(mine, group[rank].shape.free_rank, vectors)
            for owner, matrix in enumerate(group):
                (m, n), free_rank = matrix.shape.shape, matrix.shape.free_rank
                short, long = sorted((m, n))
                free, frozen = _broadcast(
                    [own.free, own.frozen] if own is not None and owner == rank else None,
                    [(short, free_rank), (long, short - free_rank)],
                    owner,
                    matrix.weight.device,
                )
                yield matrix, Bases(matrix.shape.on_input, free, frozen, free.new_empty(0, 0)), None
                bar.update()


def _by_inputs(
    matrices: Sequence[_Matrix], source: SourceWeights, kept: KeptInputs, eigenvectors: Eigenvectors
) -> Iterator[_Found]:
    """Finds bases whose free directions are those that the kept inputs use least. Collective."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    of_module = {matrix.module_name: matrix for matrix in matrices}
    device = matrices[0].weight.device
    places: list[list[int]] = [[] for _ in range(world_size)]
    for place, owner in enumerate(owners(kept.record.widths, world_size)):
        if kept.record.readers[place][0] in of_module:  # all readers of an input lie in one layer, with one ratio
            places[owner].append(place)
    with progress("decomposing", total=len(kept.record.readers), unit="inputs") as bar:
        for group in zip_longest(*places):  # one of each rank, while it has some
            moment, own = torch.empty(0), None
            if (mine := group[rank]) is not None:
                moment = kept.roots[mine].moment(device)
                vectors = eigenvectors.of("moment", moment, partial(input_vectors, moment))
                own = list(split_by_inputs(moment, of_module[kept.record.readers[mine][0]].shape.free_rank, vectors))
            for owner, place in enumerate(group):
                if place is None:
                    continue
                readers = [of_module[name] for name in kept.record.readers[place]]
                n, r = readers[0].shape.shape[1], readers[0].shape.free_rank
                free, energy = _broadcast(own if owner == rank else None, [(n, r), (r, r)], owner, device)
                for matrix in readers:
                    weight = _gather(matrix, source, owner)
                    use = torch.zeros(2, dtype=torch.float64, device=device)
                    if weight is not None:
                        power = (weight.double() @ moment * weight).sum()
                        use.copy_(torch.stack([power, input_share(energy, moment)]))
                    dist.broadcast(use, owner)
                    bases = Bases(True, free, free.new_empty(matrix.shape.shape[0], 0), energy)
                    yield matrix, bases, KeptUse(*use.tolist())
                bar.update()


def _from_folder(matrices: Sequence[_Matrix], folder: Path) -> Iterator[_Found]:
    """Reads the bases in `folder`. All ranks read a file at about the same time, so it comes from the disk once."""
    with progress("reading bases", total=len(matrices), unit="weights") as bar:
        for matrix in matrices:
            read = load_file(folder / matrix.file, device=str(matrix.weight.device))
            use = KeptUse(*read["kept_use"].tolist()) if "kept_use" in read else None
            yield matrix, Bases(matrix.update.on_input, read["free"], read["frozen"], read["energy"]), use
            bar.update()


def _gather(matrix: _Matrix, source: SourceWeights, owner: int) -> Tensor | None:
    """Returns the whole matrix in fp32 on rank `owner`, None on the others. Collective."""
    weight, rows = matrix.weight, matrix.rows
    with gathered(weight):
        if owner != dist.get_rank():
            return None
        finer = source.rows(matrix.weight_name, weight.dtype, rows.start, rows.stop)
        return weight.data[rows].to(torch.float32, copy=True) if finer is None else finer.to(weight.device)


def _broadcast(
    tensors: list[Tensor] | None, shapes: Sequence[tuple[int, ...]], owner: int, device: torch.device
) -> list[Tensor]:
    """Returns the owner's fp32 `tensors`, of these `shapes`, on every rank; the others pass None. Collective."""
    if tensors is None:
        tensors = [torch.empty(shape, device=device) for shape in shapes]
    for tensor in tensors:
        dist.broadcast(tensor, owner)
    return tensors
