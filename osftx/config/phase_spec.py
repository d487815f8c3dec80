"""The specification of a phase as pure data: the content of `phase.yaml`, which is all that a rank needs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from osftx.config.run_layout import BEST, CHECKPOINT, PHASE
from osftx.config.schema import (
    CallbackConfig,
    CheckpointingConfig,
    DistributedConfig,
    ModelConfig,
    OsftConfig,
    TrainingConfig,
    ValidationConfig,
)
from osftx.utils.files import write_text


@dataclass
class PreserveSpec:
    """What an OSFT phase with activation-based subspaces must keep. Exactly one of `record` and `samples` is set."""

    record: str | None
    """Folder of the input covariance that the previous phase left."""
    samples: str | None
    """Folder of the tokenised samples on which the first phase measures the input covariance."""
    max_tokens: int
    """Maximum number of tokens read from `samples`, and afterwards from the phase's own data."""


@dataclass
class ValidationSpec:
    """Validation of a phase while it trains, on samples that it does not train on."""

    settings: ValidationConfig
    samples: str | None
    """Folder of the tokenised validation samples; null: those that `split` holds out of the phase's own samples."""
    own_samples: int
    """Number of the phase's own samples, which come first in its data; replayed samples follow them."""
    split: str | None = None
    """File with the indices of the samples that are trained on and of those that are held out (`data.splitting`); null
    if `samples` is given."""


@dataclass
class ResumeSpec:
    """Where a phase keeps what it needs to continue after an interruption."""

    folder: str
    """Folder of this phase's saves, bases and input covariance. The launching process removes it when the phase
    is in the store."""
    eigenvectors: str
    """Folder of the cache of decompositions, which all phases share."""
    checkpointing: CheckpointingConfig


@dataclass
class PhaseSpec:
    index: int
    """Index among all phases, from 0; skipped phases count."""
    name: str
    method: str
    """Training method, as in `phases.<name>.method`."""
    unfreeze_rank_ratio: float | None
    """Trainable share of each target's rank, 0 to 1; null for a method that takes none."""
    model: ModelConfig
    """Start model of this phase; `path` is its local folder."""
    training: TrainingConfig
    osft: OsftConfig
    distributed: DistributedConfig
    data: str
    """Folder of the tokenised training samples."""
    folder: str
    """Folder in which this phase writes metrics.jsonl, checkpoint/, best/, kept_inputs/, bases/ and result.json."""
    evaluation_max_tokens: int
    """Maximum number of tokens in one micro-batch of the evaluation."""
    method_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of a method from outside the package, as in `phases.<name>.method_settings`."""
    preserve: PreserveSpec | None = None
    """What the phase must keep; null if it keeps to no input covariance."""
    validation: ValidationSpec | None = None
    """Validation while the phase trains; null: nothing is validated."""
    resume: ResumeSpec | None = None
    """How an interrupted phase continues; null: nothing is saved, and the phase always starts at its first step."""
    evaluation_sets: dict[str, str] = field(default_factory=dict)
    """Folder of the tokenised samples of each evaluation set, by name."""
    sets_to_keep: list[str] = field(default_factory=list)
    """Names of the evaluation sets that ask what was taught before this phase."""
    evaluate_every_steps: int | None = None
    """Number of optimizer steps between two measurements of the sets while the phase trains; null: none."""
    evaluate_before: bool = False
    """Whether the sets are also measured before the first step (the `base` row of the run)."""
    evaluate_only: bool = False
    """Whether the sets are measured on the model at `model.path` and nothing is trained. result.json then holds only
    `evaluation`."""
    added_stop_tokens: list[int] = field(default_factory=list)
    """Token ids that the checkpoint's generation config gets as further stop tokens."""
    callbacks: list[CallbackConfig] = field(default_factory=list)
    """The user's callbacks, in the order in which they are called. They do not change what the phase computes."""
    calibration_steps: int | None = None
    """Number of steps to take, after a first one, only to measure how long the phase will take; null: train. Nothing
    of it is kept, and result.json has another content (`worker/calibrate_phase.py`)."""

    @property
    def checkpoint(self) -> Path:
        return Path(self.folder) / CHECKPOINT

    @property
    def best(self) -> Path:
        """Folder of the checkpoint with the lowest validation loss, if it is kept beside the last one."""
        return Path(self.folder) / BEST

    def save(self) -> Path:
        """Writes `<folder>/phase.yaml`, which `python -m osftx.worker` can run, and returns its path."""
        path = Path(self.folder) / PHASE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, OmegaConf.to_yaml(OmegaConf.structured(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> "PhaseSpec":
        spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.load(path)))
        assert isinstance(spec, cls)
        return spec
