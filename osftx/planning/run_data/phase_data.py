"""The data of a phase: what it trains on and what it validates on."""

from dataclasses import dataclass, field
from pathlib import Path

from osftx.data.samples import DataSummary, Prepared
from osftx.planning.run_data.validation import HeldOut


@dataclass(frozen=True)
class PhaseData:
    """The data of one phase, read and checked."""

    training: Prepared
    """Training samples, including replayed ones and without those that are held out."""
    replayed: dict[str, int] = field(default_factory=dict)
    """Number of replayed samples of each source."""
    held_out: HeldOut | None = None
    """Validation samples; None if the phase does not validate."""

    @property
    def summary(self) -> DataSummary:
        return self.training.summary

    @property
    def folder(self) -> Path | None:
        """Folder of the tokenised samples, including those that are held out; None in a dry run."""
        return self.training.folder.resolve() if self.training.folder is not None else None
