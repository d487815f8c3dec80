"""Defines the protocol of a training method: the interface between a phase and the way in which it is trained.

A method is a folder in `osftx/methods/` (or anywhere else, see `registry`) with one class that implements `Method`. The
launching process asks this class about settings, sizes and identity, so its module imports no torch. On the ranks
`Method.open` chooses which parameters of a model are trained and returns an `OpenedPhase`, which takes part in the
training.

No other code depends on which method a phase uses.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DataConfig, ExperimentConfig, PhaseConfig, TrainingConfig
from osftx.data.samples import Prepared
from osftx.methods.sizes import MethodSizes, Workload
from osftx.models.files import ModelFiles
from osftx.models.targets import Target

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from osftx.distributed.engine import Engine
    from osftx.distributed.source_weights import SourceWeights
    from osftx.training.batches import Samples


@dataclass(frozen=True)
class PhaseOutline:
    """A phase as described by the configuration alone."""

    index: int
    """Place among all phases, counted from 0, including phases that `init_from` skips."""
    name: str
    config: PhaseConfig
    training: TrainingConfig
    """Settings that the phase trains with, after its overrides."""
    method: "Method"
    ratio: float | None
    """Unfreeze ratio; None for a method that takes none."""
    keeps: list[str] | None = None
    """Sources of the records that the phase must respect; None if the phase reads no records."""
    leaves: list[str] = field(default_factory=list)
    """Sources of the records that the phase leaves beside its checkpoint."""


class Method(ABC):
    """A way of training a phase. One object serves all phases and holds no state of any of them."""

    name: ClassVar[str]
    takes_ratio: ClassVar[bool] = False
    """Whether `schedule` gives phases of this method an unfreeze ratio."""
    groups: ClassVar[tuple[str, ...]] = ()
    """Groups of the configuration that only this method reads."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Folders that a phase leaves beside its checkpoint, and that the phase store keeps."""

    # Methods below are called by the launching process and import no torch.

    def problems(self, config: ExperimentConfig) -> Iterator[str]:
        """Yields every problem of the settings that all phases of this method share.

        Each problem is one line: path, value, what is allowed, remedy.
        """
        yield from ()

    def phase_problems(self, path: str, phase: PhaseConfig) -> Iterator[str]:
        """Yields every problem of one phase's settings; `path` is the phase's path, such as `phases.skills`."""
        yield from ()

    def unread(self, config: ExperimentConfig) -> Collection[str]:
        """Returns the `groups`, or keys such as `osft.minimum_retention`, that have no effect with these settings."""
        return ()

    def targets(self, config: ExperimentConfig, model: ModelFiles, phases: Sequence[PhaseOutline]) -> list[Target]:
        """Returns the layers that the method treats individually, by their names in the model's files.

        `phases` are the phases of this method. Raises ConfigurationError if the model has no such layers, or if the
        settings do not fit them.
        """
        return []

    def found_beside(self, config: ExperimentConfig, model: str, targets: Sequence[Target]) -> list[str]:
        """Returns the sources of the records that an earlier run left beside the start model `model`.

        Raises ConfigurationError for records of other targets or of another model.
        """
        return []

    def records(
        self, config: ExperimentConfig, name: str, received: Sequence[str]
    ) -> tuple[list[str] | None, list[str]]:
        """Returns the sources of the records that the phase `name` must respect, and of those that it leaves.

        `received` are the sources of the records beside the model from which the phase starts.
        """
        return None, []

    def extra_data(self, config: ExperimentConfig, phases: Sequence[PhaseOutline]) -> dict[str, DataConfig]:
        """Returns the data that the `phases` of this method read in addition to their own, by setting.

        Raises ConfigurationError if a setting is missing.
        """
        return {}

    def check_extra_data(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        own: Mapping[str, Prepared],
        targets: Sequence[Target],
    ) -> None:
        """Raises ConfigurationError for unsuitable extra data; `own` is each phase's training data.

        It is called once for each setting of `extra_data`, with that setting alone in `extra`.
        """

    def warnings(self, config: ExperimentConfig, phases: Sequence[PhaseOutline], starts_from: str) -> Iterator[str]:
        """Yields advice about the run's settings.

        `phases` are all phases of the run, `starts_from` is its start model.
        """
        yield from ()

    def data_warnings(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        targets: Sequence[Target],
        evaluation: Mapping[str, Prepared],
        training: Mapping[str, Prepared],
    ) -> Iterator[str]:
        """Yields advice about the extra data, given the evaluation sets and the phases' training data."""
        yield from ()

    @abstractmethod
    def sizes(self, work: Workload) -> MethodSizes:
        """Returns what a phase of this method trains and holds, computed from the shapes of the model's tensors."""

    def spec_fields(
        self, config: ExperimentConfig, phase: PhaseOutline, source: Path, extra: Mapping[str, Path]
    ) -> dict[str, Any]:
        """Returns the fields of `PhaseSpec` that this method fills.

        `source` is the checkpoint that the phase starts from, `extra` the folders of the tokenised extra data.
        """
        return {}

    def fingerprint(self, spec: PhaseSpec) -> dict[str, Any]:
        """Returns the settings that determine the phase's result, in addition to those that every phase has."""
        return {}

    # Methods below run on the ranks.

    @abstractmethod
    def open(self, model: "nn.Module", spec: PhaseSpec, samples: "Samples", device: "torch.device") -> "OpenedPhase":
        """Chooses the trained parameters of the partitioned `model` and returns the method's part in the phase.

        The choice is made by `requires_grad`. `samples` are those that the phase trains on. Collective. Raises
        ValueError for a model that cannot be trained.
        """


class AfterStep(NamedTuple):
    """Functions that update the trained parameters in addition to the optimizer."""

    calls: Sequence[Callable[[], None]] = ()
    """Calls made after each optimizer step, in this order, before the next forward pass."""
    restored: Callable[[], None] = lambda: None
    """Call made after trained parameters were restored from a save or a snapshot."""


class Merged(NamedTuple):
    """The value of a parameter to save, on the rank that writes; `value` is None on the others."""

    value: "Tensor | None"
    records: list[dict[str, Any]]
    """Entries for the parameter in result.json under `targets`. An entry needs a `name`. The summary and the report
    show the entries that hold the measures of a subspace, which are those of `methods.osft.saved_weight`."""


class OpenedPhase(ABC):
    """A method's part in one phase, on every rank. All of its functions are collective."""

    source: "SourceWeights"
    """Weights in the files that the phase starts from."""
    replaced: Collection[str] = ()
    """Names of the parameters whose saved value the method computes itself (`merged`)."""
    added: Collection["nn.Parameter"] = ()
    """Trained parameters that the method adds to the model. They are not saved: `merged` puts what they learned into
    the weights."""

    def before_training(self, engine: "Engine") -> None:
        """Called once before the first step, before any evaluation."""

    def after_step(self, engine: "Engine") -> AfterStep:
        """Called once before the first step; returns what must be called after each step."""
        return AfterStep()

    def merged(self, parameter: str, before: "Tensor | None", save_dtype: "torch.dtype") -> Merged:
        """Returns the value to save for one of the `replaced` parameters.

        `before` is its value in the files of the start model, in the module's orientation, on the rank that writes.
        """
        raise NotImplementedError

    def after_training(self, engine: "Engine") -> None:
        """Called after the last step, when the checkpoint has been written."""

    def leave(self, folder: Path, checkpoints: Sequence[Path]) -> None:
        """Writes the files that the phase leaves in its `folder` beside the `checkpoints`."""

    def results(self) -> dict[str, Any]:
        """Returns further entries of result.json."""
        return {}
