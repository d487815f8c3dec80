"""What a phase trains, as sizes of tensors: the common ground of all estimates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from osftx.config.schema import BestState, Method, OffloadConfig, OsftConfig, Precision, SubspaceKind, TrainingConfig
from osftx.methods.osft.ranks import UpdateShape, stored_columns, update_shapes
from osftx.models.files import ModelFiles
from osftx.models.targets import Target

BYTES = {Precision.bfloat16: 2, Precision.float32: 4}
"""Of a number."""
FP32, FP64 = 4, 8
_LAYER = re.compile(r"((?:.*\.)?(?:layers|h)\.\d+)\.(.*)\.weight")
_READS_ATTENTION = ("o_proj", "out_proj", "c_proj", "dense")
"""Stand beside the query's projection, are often as wide, and yet read another tensor."""

Shape = tuple[int, ...]


class Update(NamedTuple):
    """The update of (a block of) a target, and where that lies in the weight."""

    weight: Shape
    first_row: int
    shape: UpdateShape
    frozen_rank: int
    """Directions of the other side that it must avoid."""
    columns: int
    """Of `basis` and `delta`, which hold the free rank."""

    @property
    def own_side(self) -> int:
        """d of `decomposition.Bases`."""
        rows, columns = self.shape.shape
        return columns if self.shape.on_input else rows

    @property
    def other_side(self) -> int:
        """e of `decomposition.Bases`."""
        rows, columns = self.shape.shape
        return rows if self.shape.on_input else columns

    @property
    def stored_numbers(self) -> int:
        """Numbers of `delta`, as the optimizer sees it."""
        return self.other_side * self.columns


class Layer(NamedTuple):
    """Sizes of one decoder layer, as seen by one token."""

    outputs: int
    """Features that all its linear layers write."""
    inputs: int
    """Features that they read, each distinct input once."""
    widest_input: int


@dataclass(frozen=True)
class Workload:
    """A phase, as far as it decides how much is held and written."""

    shapes: Mapping[str, Shape]
    """Of each tensor of the model, tied ones once."""
    targets: Sequence[Target]
    """None for `sft`."""
    method: Method
    ratio: float | None
    """None for `sft`. Shared out evenly, whatever `osft.rank_allocation` says."""
    training: TrainingConfig
    osft: OsftConfig
    offload: OffloadConfig
    ranks: int
    best: BestState = BestState.ignore
    """What becomes of the best validated state."""
    start_bytes: int = 2
    """Bytes of a number in the files that the phase starts from."""

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in the precision of training."""
        return BYTES[self.training.train_dtype]

    @cached_property
    def updates(self) -> list[Update]:
        """Of every target that has a subspace: not where all of it is trained (ratio 1), or nothing (0)."""
        if self.ratio is None or not 0.0 < self.ratio < 1.0:
            return []
        found = []
        by_weights = self.osft.subspace is SubspaceKind.weights
        for target in self.targets:
            first_row = 0
            for shape in update_shapes(target, self.ratio, self.osft.subspace):
                frozen = min(shape.shape) - shape.free_rank if by_weights else 0
                columns = stored_columns(shape.free_rank, self.number_bytes)
                found.append(Update(target.weight_shape, first_row, shape, frozen, columns))
                first_row += shape.shape[0]
        return found

    @property
    def updated_weights(self) -> list[Shape]:
        """The weights that have updates."""
        return [update.weight for update in self.updates if update.first_row == 0]

    @cached_property
    def weights(self) -> list[tuple[int, bool]]:
        """Numbers of each tensor of the model, and whether it is trained."""
        targets = {f"{target.name}.weight" for target in self.targets}
        others = self.method is Method.sft or self.osft.train_others
        itself = self.method is Method.sft or self.ratio == 1.0
        return [(prod(shape), itself if name in targets else others) for name, shape in self.shapes.items()]

    @property
    def trained(self) -> list[int]:
        """Numbers of each tensor that the optimizer sees."""
        return [size for size, trained in self.weights if trained] + [update.stored_numbers for update in self.updates]

    @property
    def inputs(self) -> list[int]:
        """Features of each distinct input of the targets, where activations choose: what a record of them holds."""
        if self.method is Method.sft or self.osft.subspace is SubspaceKind.weights:
            return []
        distinct = {_input(target.name, target.in_features): target.in_features for target in self.targets}
        return list(distinct.values())

    @property
    def input_ranks(self) -> list[int]:
        """The free rank of each distinct input, where activations choose."""
        if self.osft.subspace is SubspaceKind.weights:
            return []
        distinct = {_input(update.shape.name, update.own_side): update.shape.free_rank for update in self.updates}
        return list(distinct.values())

    @cached_property
    def layers(self) -> list[Layer]:
        """The decoder layers (`layers.N` or `h.N`)."""
        matrices: dict[str, dict[str, Shape]] = {}
        for name, shape in self.shapes.items():
            if len(shape) == 2 and (match := _LAYER.fullmatch(name)):
                matrices.setdefault(match[1], {})[f"{match[1]}.{match[2]}"] = shape
        return [_layer(found) for found in matrices.values()]

    @property
    def vocabulary(self) -> Shape:
        """(words, features) of the embeddings or of the head; (0, 0) for a model without."""
        outside = [shape for name, shape in self.shapes.items() if len(shape) == 2 and not _LAYER.fullmatch(name)]
        return max(outside, default=(0, 0))


def untied(model: ModelFiles) -> Mapping[str, Shape]:
    """The shapes of a model's tensors; a head that is tied to the embeddings is left out where the files repeat it."""
    config: Mapping[str, Any] = {**model.config, **(model.config.get("text_config") or {})}
    tied = bool(config.get("tie_word_embeddings")) and any("embed" in name for name in model.shapes)
    return {name: shape for name, shape in model.shapes.items() if not (tied and name == "lm_head.weight")}


def _layer(matrices: Mapping[str, Shape]) -> Layer:
    inputs = {_input(name, shape[1]): shape[1] for name, shape in matrices.items()}
    return Layer(sum(shape[0] for shape in matrices.values()), sum(inputs.values()), max(inputs.values()))


def _input(module: str, features: int) -> tuple[str, int]:
    """What tells the input of one linear layer from those of others: q, k and v read one, gate and up another."""
    parent, _, child = module.rpartition(".")
    return (module if child in _READS_ATTENTION else parent), features
