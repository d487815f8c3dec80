"""What a phase trains on and what it validates on."""

from dataclasses import dataclass, field
from pathlib import Path

from osftx.data.samples import DataSummary, Prepared
from osftx.planning.run_data.validation import HeldOut


@dataclass(frozen=True)
class PhaseData:
    """The data of one phase, read and checked."""

    training: Prepared
    """What it trains on, with what it replays and without what it validates on."""
    replayed: dict[str, int] = field(default_factory=dict)
    """Samples of each replayed source among them."""
    held_out: HeldOut | None = None
    """What it validates on; None where it does not."""

    @property
    def summary(self) -> DataSummary:
        return self.training.summary

    @property
    def folder(self) -> Path | None:
        """The folder of the tokenised samples; None in a dry run. It also holds the samples that are held out."""
        return self.training.folder.resolve() if self.training.folder is not None else None
