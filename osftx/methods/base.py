"""What a training method is: the protocol between a phase and the way in which it is trained.

A method is a folder in `osftx/methods/` (or anywhere else, see `registry`) with one class that implements `Method`. The
launching process asks it about settings, sizes and identity, so the module of that class imports no torch. On the ranks
`Method.open` chooses what of a model is trained and returns an `OpenedPhase`, which takes part in the training.

No other code asks which method a phase uses.
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
    """A phase as the configuration alone describes it."""

    index: int
    """Place among all phases, from 0. Phases that an `init_from` skips count."""
    name: str
    config: PhaseConfig
    training: TrainingConfig
    """The settings that the phase trains with, its overrides applied."""
    method: "Method"
    ratio: float | None
    """Unfreeze ratio; None for a method that takes none."""
    keeps: list[str] | None = None
    """Sources of the records that the phase must keep to; None where it reads none."""
    leaves: list[str] = field(default_factory=list)
    """Sources of the records that it leaves beside its checkpoint."""


class Method(ABC):
    """A way of training a phase. One object serves all phases and holds no state of any of them."""

    name: ClassVar[str]
    takes_ratio: ClassVar[bool] = False
    """Whether `schedule` gives phases of this method an unfreeze ratio."""
    groups: ClassVar[tuple[str, ...]] = ()
    """Groups of the configuration that only this method reads."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Folders that a phase leaves beside its checkpoint, and that the phase store keeps."""

    # The launching process: no torch.

    def problems(self, config: ExperimentConfig) -> Iterator[str]:
        """Yields every problem of the settings that all phases of this method share.

        Each problem is one line: path, value, what is allowed, remedy.
        """
        yield from ()

    def phase_problems(self, path: str, phase: PhaseConfig) -> Iterator[str]:
        """Yields every problem of one phase's settings; `path` is the phase's place, such as `phases.skills`."""
        yield from ()

    def unread(self, config: ExperimentConfig) -> Collection[str]:
        """Returns those of its `groups`, or keys in them such as `osft.minimum_retention`, that decide nothing here."""
        return ()

    def targets(self, config: ExperimentConfig, model: ModelFiles, phases: Sequence[PhaseOutline]) -> list[Target]:
        """Returns the layers that the method treats by themselves, by their names in the model's files.

        `phases` are those of this method. Raises ConfigurationError where the model has none, or where the settings do
        not fit them.
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
        """Returns (what the phase `name` keeps to, what it leaves) as sources of records.

        `received` are the sources of the records that lie beside the model from which the phase starts.
        """
        return None, []

    def extra_data(self, config: ExperimentConfig, phases: Sequence[PhaseOutline]) -> dict[str, DataConfig]:
        """Returns the data that the `phases` of this method read beside their own, by setting.

        Raises ConfigurationError where a setting is missing.
        """
        return {}

    def check_extra_data(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        own: Mapping[str, Prepared],
        targets: Sequence[Target],
    ) -> None:
        """Raises ConfigurationError for extra data that cannot serve; `own` is each phase's training data."""

    def warnings(self, config: ExperimentConfig, phases: Sequence[PhaseOutline], starts_from: str) -> Iterator[str]:
        """Yields advice about the run's settings; `phases` are all of the run, which `starts_from` this model."""
        yield from ()

    def data_warnings(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        targets: Sequence[Target],
        evaluation: Mapping[str, Prepared],
        training: Mapping[str, Prepared],
    ) -> Iterator[str]:
        """Yields advice about the extra data beside the evaluation sets and the phases' training data."""
        yield from ()

    @abstractmethod
    def sizes(self, work: Workload) -> MethodSizes:
        """Returns what a phase of this method trains and holds, counted from the shapes of the model's tensors."""

    def spec_fields(
        self, config: ExperimentConfig, phase: PhaseOutline, source: Path, extra: Mapping[str, Path]
    ) -> dict[str, Any]:
        """Returns the fields of `PhaseSpec` that this method fills.

        `source` is the checkpoint that the phase starts from, `extra` the folders of the tokenised extra data.
        """
        return {}

    def fingerprint(self, spec: PhaseSpec) -> dict[str, Any]:
        """Returns the settings that decide the phase's result beside those that every phase has."""
        return {}

    # The ranks.

    @abstractmethod
    def open(self, model: "nn.Module", spec: PhaseSpec, samples: "Samples", device: "torch.device") -> "OpenedPhase":
        """Chooses what of the partitioned `model` is trained (`requires_grad`), and returns the phase's own part.

        `samples` are those that the phase trains on. Collective. Raises ValueError for a model that it cannot train.
        """


class AfterStep(NamedTuple):
    """What has to happen to the trained parameters beside the optimizer's own work."""

    calls: Sequence[Callable[[], None]] = ()
    """Made after each optimizer step, in this order, before the next forward pass."""
    restored: Callable[[], None] = lambda: None
    """Made when trained parameters were put back from a save or a snapshot."""


class Merged(NamedTuple):
    """The value of a parameter to save, on the rank that writes; None elsewhere."""

    value: "Tensor | None"
    records: list[dict[str, Any]]
    """What result.json says of it under `targets`; `name` and measures of what was kept."""


class OpenedPhase(ABC):
    """A method's part in one phase, on every rank. All of its functions are collective."""

    source: "SourceWeights"
    """The weights in the files that the phase starts from."""
    replaced: Collection[str] = ()
    """Parameters whose saved value the method makes itself (`merged`)."""

    def before_training(self, engine: "Engine") -> None:
        """Called once before the first step, before anything is evaluated."""

    def after_step(self, engine: "Engine") -> AfterStep:
        """Called once before the first step; returns what has to be done after each one."""
        return AfterStep()

    def merged(self, parameter: str, before: "Tensor | None", save_dtype: "torch.dtype") -> Merged:
        """Returns the value to save for one of the `replaced` parameters.

        `before` is its value in the files of the start model, in the module's orientation, on the rank that writes.
        """
        raise NotImplementedError

    def after_training(self, engine: "Engine") -> None:
        """Called after the last step, when the checkpoint has been written."""

    def leave(self, folder: Path, checkpoints: Sequence[Path]) -> None:
        """Writes what the phase leaves in its `folder` beside the `checkpoints`."""

    def results(self) -> dict[str, Any]:
        """Returns further entries of result.json."""
        return {}
