"""Computes the sizes of a phase from the shapes of the model's tensors, with what a method adds. Needs no torch."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from osftx.config.schema import BestState, OffloadConfig, OsftConfig, Precision, TrainingConfig
from osftx.models.families import DECODER_LAYER
from osftx.models.files import ModelFiles
from osftx.models.targets import Target

if TYPE_CHECKING:
    from osftx.methods.base import Method

BYTES = {Precision.bfloat16: 2, Precision.float32: 4}
"""Bytes per number in each precision."""
FP32, FP64 = 4, 8
_WEIGHT_IN_LAYER = re.compile(rf"({DECODER_LAYER})\.(.*)\.weight")
_READS_ATTENTION = ("o_proj", "out_proj", "c_proj", "dense")
"""Layers of attention that are often as wide as the query's projection but read another tensor."""

Shape = tuple[int, ...]


@dataclass
class Held:
    """Bytes that a rank holds between two steps, by their use."""

    parameters: int = 0
    """Bytes of weights and updates, in the precision of training."""
    gradients: int = 0
    master: int = 0
    moments: int = 0
    bucket: int = 0
    bases: int = 0
    """Bytes of the frozen parameters that the method adds, in the precision of training and in fp32."""
    starting_weights: int = 0
    kept_inputs: int = 0
    """Bytes of the Cholesky factors of the input covariance that must be preserved."""
    best_state: int = 0
    """Bytes of the fp32 copy of the trained parameters at the lowest validation loss."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class MethodDisk:
    """Bytes that a method leaves on disk beside the checkpoint."""

    bases: int = 0
    """Bytes of the bases that remain after the phase."""
    unsaved_bases: int = 0
    """Bytes of the bases that are needed while the phase trains and removed afterwards."""
    kept_inputs: int = 0
    eigenvectors: int = 0
    """Bytes of eigenvectors in the cache of the phase store, for later runs."""


@dataclass(frozen=True)
class MethodSizes:
    """What a method trains of a model, and what it adds to it."""

    trainable: int
    """Count of numbers that the plan shows as trained."""
    frozen: int
    """Count of numbers that the plan shows as frozen."""
    trained_weights: Collection[str]
    """Names of the model's own tensors that are trained."""
    trains_norms: bool
    added: Sequence[int] = ()
    """Count of numbers of each trained parameter that the method adds."""
    added_frozen: Sequence[int] = ()
    """Count of numbers of each frozen parameter that the method adds and that the backward pass gathers."""
    device: Held = field(default_factory=Held)
    """Bytes that a rank additionally holds on its device between two steps."""
    host: Held = field(default_factory=Held)
    """Bytes that a rank additionally holds in host memory between two steps."""
    after_step: int = 0
    """Bytes that the method needs on the device after an optimizer step."""
    disk: MethodDisk = MethodDisk()


class Layer(NamedTuple):
    """Sizes of one decoder layer for one token."""

    outputs: int
    """Number of features that all linear layers of the decoder layer write."""
    inputs: int
    """Number of features that these linear layers read, with each distinct input counted once."""
    widest_input: int


@dataclass(frozen=True)
class Workload:
    """The properties of a phase that determine how much memory and disk space it needs."""

    shapes: Mapping[str, Shape]
    """Shape of each tensor of the model; tied tensors count once."""
    targets: Sequence[Target]
    method: "Method"
    ratio: float | None
    """Unfreeze ratio, assumed equal for all targets whatever `osft.rank_allocation` says; None for a method that takes
    none."""
    training: TrainingConfig
    osft: OsftConfig
    offload: OffloadConfig
    ranks: int
    best: BestState = BestState.ignore
    """Handling of the state with the lowest validation loss."""
    start_bytes: int = 2
    """Bytes per number in the files that the phase starts from."""
    repeated: int = 0
    """Count of numbers that the files hold twice, for a head that is tied to the embeddings."""
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a method that has no group of its own in the configuration."""

    @property
    def number_bytes(self) -> int:
        """Bytes per number in the precision of training."""
        return BYTES[self.training.train_dtype]

    @cached_property
    def sizes(self) -> MethodSizes:
        """The sizes of what the method trains and adds."""
        return self.method.sizes(self)

    @cached_property
    def weights(self) -> list[int]:
        """Count of numbers of each tensor of the model."""
        return [prod(shape) for shape in self.shapes.values()]

    @property
    def parameters(self) -> int:
        """Count of numbers in the model's files."""
        return sum(self.weights) + self.repeated

    @cached_property
    def trained(self) -> list[int]:
        """Count of numbers of each tensor that the optimizer trains."""
        own = [prod(shape) for name, shape in self.shapes.items() if name in self.sizes.trained_weights]
        return own + list(self.sizes.added)

    @cached_property
    def layers(self) -> list[Layer]:
        """Sizes of the decoder layers."""
        matrices: dict[str, dict[str, Shape]] = {}
        for name, shape in self.shapes.items():
            if len(shape) == 2 and (match := _WEIGHT_IN_LAYER.fullmatch(name)):
                matrices.setdefault(match[1], {})[f"{match[1]}.{match[2]}"] = shape
        return [_layer(found) for found in matrices.values()]

    @property
    def vocabulary(self) -> Shape:
        """Shape (words, features) of the embeddings or of the head; (0, 0) for a model without them."""
        outside = [
            shape for name, shape in self.shapes.items() if len(shape) == 2 and not _WEIGHT_IN_LAYER.fullmatch(name)
        ]
        return max(outside, default=(0, 0))


def untied(model: ModelFiles) -> Mapping[str, Shape]:
    """Returns the shapes of a model's tensors, without a tied head that the files repeat."""
    config: Mapping[str, Any] = {**model.config, **(model.config.get("text_config") or {})}
    tied = bool(config.get("tie_word_embeddings")) and any("embed" in name for name in model.shapes)
    return {name: shape for name, shape in model.shapes.items() if not (tied and name == "lm_head.weight")}


def distinct_input(module: str, features: int) -> tuple[str, int]:
    """Returns a key that is equal for linear layers that read the same tensor, such as q, k and v, or gate and up."""
    parent, _, child = module.rpartition(".")
    return (module if child in _READS_ATTENTION else parent), features


def _layer(matrices: Mapping[str, Shape]) -> Layer:
    inputs = {distinct_input(name, shape[1]): shape[1] for name, shape in matrices.items()}
    return Layer(sum(shape[0] for shape in matrices.values()), sum(inputs.values()), max(inputs.values()))
