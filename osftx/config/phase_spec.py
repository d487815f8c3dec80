"""The specification of a phase as pure data: the content of `phase.yaml`, which is all that a rank needs."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from osftx.config.run_layout import BEST, CHECKPOINT, PHASE
from osftx.config.schema import (
    CallbackConfig,
    CheckpointingConfig,
    DistributedConfig,
    GenerationConfig,
    ModelConfig,
    OsftConfig,
    TrainingConfig,
    ValidationConfig,
)
from osftx.errors import ConfigurationError
from osftx.utils.files import write_text
from osftx.utils.masking import masked, names_a_secret

HIDDEN = "OSFTX_HIDDEN_"
"""Beginning of the environment variables by which the ranks get secrets."""


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
class AskedSet:
    """An evaluation set whose answers are generated."""

    samples: str
    """Folder of its tokenised samples."""
    max_new_tokens: int
    """Maximum number of tokens of an answer."""
    stop_ids: list[int]
    """Tokens that end an answer, in addition to the model's own."""


@dataclass
class GenerationSpec:
    """Answers that are generated with the model at `model.path`, and its comparison with the start model of the run."""

    sets: dict[str, AskedSet]
    """Evaluation sets that the model answers."""
    settings: GenerationConfig
    base: str = ""
    """Folder of the start model; empty if nothing is compared."""
    against_base: dict[str, AskedSet] = field(default_factory=dict)
    """Evaluation sets on whose answers of the start model both models are compared."""
    base_answers: str | None = None
    """File with the answers of the start model to `against_base`, by set; null: those of `sets` that are generated now,
    with the start model itself."""


@dataclass
class StartFile:
    """A file of the start model, as it was when the phase's fingerprint was computed."""

    name: str
    """Path relative to the parent of the model's folder."""
    sha256: str
    state: list[int] | None
    """State of the file when it was read (`utils.known_digests.FileState`), to notice changes; null: read it again."""


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
    generation: GenerationSpec | None = None
    """Answers to generate with the model at `model.path`; nothing is trained then, and `answers.json` is written
    instead of result.json. null: train."""
    start_files: list[StartFile] = field(default_factory=list)
    """The files of the start model that the ranks must find unchanged; none if the phase is not stored."""
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
        """Writes `<folder>/phase.yaml`, which `python -m osftx.worker` can run, and returns its path.

        Secrets in settings of callbacks and methods are not written. The ranks get them by this process's environment.
        """
        path = Path(self.folder) / PHASE
        path.parent.mkdir(parents=True, exist_ok=True)
        callbacks = [
            replace(callback, settings=self._without_secrets(callback.settings, f"CALLBACKS_{place}"))
            for place, callback in enumerate(self.callbacks)
        ]
        method_settings = self._without_secrets(self.method_settings, "METHOD_SETTINGS")
        shown = replace(self, callbacks=callbacks, method_settings=method_settings)
        write_text(path, OmegaConf.to_yaml(OmegaConf.structured(shown)))
        return path

    def _without_secrets(self, value: Any, path: str, key: str = "") -> Any:
        """Returns settings with a reference to a variable of this process's environment in the place of each secret.

        `key` is the key under which the value stands. Below one that names a secret everything is one.
        """
        if isinstance(value, dict):
            return {
                name: self._without_secrets(inner, f"{path}_{name}", key if names_a_secret(key) else str(name))
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self._without_secrets(inner, f"{path}_{place}", key) for place, inner in enumerate(value)]
        if masked(value, key) == value:
            return value
        if self.distributed.nnodes > 1:
            raise ConfigurationError(
                [
                    f"phases.{self.name}: a setting of a callback or method ({path.lower()}) is a secret, which is not "
                    "sent to other nodes; let the class read it from the environment there"
                ]
            )
        variable = f"{HIDDEN}{re.sub(r'[^A-Z0-9]', '_', path.upper())}"
        os.environ[variable] = str(value)
        reference = f"${{oc.env:{variable}}}"
        return reference if isinstance(value, str) else f"${{oc.decode:{reference}}}"  # a number stays one

    @classmethod
    def load(cls, path: Path) -> "PhaseSpec":
        spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.load(path)))
        assert isinstance(spec, cls)
        return spec
