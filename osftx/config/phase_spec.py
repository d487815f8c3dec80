"""A phase as pure data: what `phase.yaml` holds, and everything that a rank needs to know."""

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
    """What an OSFT phase must keep, when activations decide which directions are free. One of the first two is set."""

    record: str | None
    """Folder of the kept inputs that the phase before has left."""
    samples: str | None
    """Folder of the tokenised samples to measure, for the first phase."""
    max_tokens: int
    """Tokens that are read of `samples`, and afterwards of the phase's own data."""


@dataclass
class ValidationSpec:
    """What a phase measures while it trains, on samples that it does not train on."""

    settings: ValidationConfig
    samples: str | None
    """Folder of the tokenised samples; null: those that `split` holds out of the phase's own."""
    own_samples: int
    """The first samples of the phase's data are its own; what is behind so many of them is replayed."""
    split: str | None = None
    """File with the places of the samples that are trained on and of those that are held out (`data.splitting`); null
    where `samples` is given."""


@dataclass
class ResumeSpec:
    """Where a phase keeps what it needs to go on after it was broken off."""

    folder: str
    """Of this phase alone: its saves, bases and kept inputs; the parent removes it when the phase is in the store."""
    eigenvectors: str
    """Cache of decompositions, shared by all phases."""
    checkpointing: CheckpointingConfig


@dataclass
class PhaseSpec:
    index: int
    """Place in the plan, from 0; skipped phases count."""
    name: str
    method: str
    """As `phases.<name>.method`."""
    unfreeze_rank_ratio: float | None
    """Trainable share of the rank; null for a method that takes none."""
    model: ModelConfig
    """`path` is the local folder that this phase starts from."""
    training: TrainingConfig
    osft: OsftConfig
    distributed: DistributedConfig
    data: str
    """Folder of the tokenised training samples."""
    folder: str
    """Where this phase writes: metrics.jsonl, checkpoint/, best/, kept_inputs/, bases/, result.json."""
    evaluation_max_tokens: int
    """Tokens in one micro-batch of the evaluation."""
    method_settings: dict[str, Any] = field(default_factory=dict)
    """As `phases.<name>.method_settings`."""
    preserve: PreserveSpec | None = None
    """null: the weights decide."""
    validation: ValidationSpec | None = None
    """null: nothing is validated."""
    resume: ResumeSpec | None = None
    """null: nothing is kept, and the phase always starts at its first step."""
    evaluation_sets: dict[str, str] = field(default_factory=dict)
    """Folder of the tokenised samples, by set."""
    sets_to_keep: list[str] = field(default_factory=list)
    """Those of them that ask what was taught before this phase."""
    evaluate_every_steps: int | None = None
    """Measure the sets while the phase trains, too, every so many optimizer steps; null: no."""
    evaluate_before: bool = False
    """Measure the sets before the first step too (the run's `base` row)."""
    evaluate_only: bool = False
    """Measure the sets on the model of `model.path` and train nothing; result.json then holds `evaluation` alone."""
    callbacks: list[CallbackConfig] = field(default_factory=list)
    """The user's callbacks, in the order in which they are called. They do not change what the phase computes."""
    calibration_steps: int | None = None
    """Take so many steps to find out how long the phase will take, keep nothing of it; result.json is another then
    (`calibrate_phase.py`)."""

    @property
    def checkpoint(self) -> Path:
        return Path(self.folder) / CHECKPOINT

    @property
    def best(self) -> Path:
        """The state of the lowest validation loss, where it is kept beside the last one."""
        return Path(self.folder) / BEST

    def save(self) -> Path:
        """Write `<folder>/phase.yaml`, which `python -m osftx.worker` runs again on its own."""
        path = Path(self.folder) / PHASE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, OmegaConf.to_yaml(OmegaConf.structured(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> "PhaseSpec":
        spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.load(path)))
        assert isinstance(spec, cls)
        return spec
