"""Index of a stored input covariance (`covariance`): which inputs of which layers it holds. Needs no torch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from osftx.config.run_layout import INPUT_COVARIANCE
from osftx.errors import ConfigurationError
from osftx.models.files import tensor_files
from osftx.models.targets import Target
from osftx.utils.files import expanded, write_json
from osftx.utils.manifest import digest

INDEX = "index.json"
PRESERVED = "preserve.data"
"""Source that stands for everything before the first phase; the other sources are phases."""


@dataclass
class Record:
    readers: list[list[str]]
    """Modules that read each input, in the order of the forward pass; the first module gives the input's file its
    name."""
    widths: list[int]
    """Number of features of each input."""
    sources: list[str]
    """Names of what must be kept: `preserve.data`, then the phases."""
    weights: list[str] = field(default_factory=list)
    """The `weights_digest` of each checkpoint that the record belongs to."""
    stored: dict[str, str] = field(default_factory=dict)
    """Names in the checkpoint's files of those readers that the files name differently from the model."""

    def save(self, folder: Path) -> None:
        write_json(folder / INDEX, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Record":
        """Returns the record in `folder`. Raises ConfigurationError if it cannot be read."""
        try:
            record = cls(**json.loads((folder / INDEX).read_text(encoding="utf-8")))
            for readers, _ in zip(record.readers, record.widths, strict=True):
                (folder / f"{readers[0]}.safetensors").stat()
            record.sources = [str(source) for source in record.sources]
            return record
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise ConfigurationError(
                [
                    f"{folder}: not a record of input covariance ({type(error).__name__}: {error}); move it away to "
                    "measure preserve.data instead"
                ]
            ) from error

    def check(self, folder: Path, targets: Sequence[Target], checkpoint: Path) -> None:
        """Raises ConfigurationError unless the record, stored in `folder`, is of `targets` in `checkpoint`.

        The targets have their names in the files.
        """
        known = {
            self.stored.get(name, name): width
            for readers, width in zip(self.readers, self.widths, strict=True)
            for name in readers
        }
        wanted = {target.name: target.in_features for target in targets}
        if known != wanted:
            name = next(iter(sorted(set(known.items()) ^ set(wanted.items()))))[0]
            raise ConfigurationError(
                [
                    f"{folder}: a record of other targets than this run's (they differ at {name}); give the same "
                    "osft.target_patterns as the run that left it, or move it away to measure preserve.data instead"
                ]
            )
        if weights_digest(checkpoint) not in self.weights:
            raise ConfigurationError(
                [
                    f"{folder}: a record of another model than {checkpoint}; put the checkpoint that it was left with "
                    "there, or move it away to measure preserve.data instead"
                ]
            )


def weights_digest(checkpoint: Path) -> str:
    """Returns a SHA-256 digest (hexadecimal) of the names and contents of a checkpoint's files of weights."""
    files = sorted(set(tensor_files(checkpoint).values()))
    content = "\n".join(f"{file.name} {digest(file)}" for file in files)
    return hashlib.sha256(content.encode()).hexdigest()


def moment_bytes(width: int) -> int:
    """Returns the bytes of the Cholesky factor of an input with `width` features, on disk and in host memory."""
    return width * (width + 1) + 4 * width


def record_beside(model: str | Path) -> Path | None:
    """Returns the folder of the record that a phase left beside its checkpoint `model`; None if there is none."""
    folder = expanded(model).resolve().parent / INPUT_COVARIANCE  # a checkpoint may link to another run's
    return folder if folder.is_dir() else None
