"""The room that phases take on the disk: what stays of each, and what is there only while one trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from osftx.config.schema import BestState, CheckpointingConfig
from osftx.data.samples import DataSummary
from osftx.methods.sizes import BYTES, FP32, Workload

TOKEN = 4.125
"""Bytes of a tokenised token: an int32, and the bit that says whether it counts."""
SAMPLE = 24
"""Bytes of a sample beside its tokens: where its lists end, and its length and digest in the index."""


@dataclass
class Disk:
    """Estimated bytes of one phase."""

    checkpoint: int
    """With `validation.best=keep` two of them."""
    bases: int
    """fp32, as the phase leaves them; 0 with `osft.save_bases=false`."""
    kept_inputs: int
    """The record of what must be kept."""
    eigenvectors: int
    """Decompositions in the store, which serve later runs; 0 without a store."""
    data: int
    """The tokenised samples."""
    while_training: int
    """Beside all this: the saves that an interrupted phase goes on from, one of which is being written."""

    @property
    def result(self) -> int:
        return self.checkpoint + self.bases + self.kept_inputs

    def without_bases(self, with_store: bool) -> "Disk":
        """The same with `osft.save_bases=false`; with a store they are there until the phase is done, all the same."""
        return replace(self, bases=0, while_training=self.while_training + (self.bases if with_store else 0))


def of_phase(work: Workload, data: DataSummary, steps: int, checkpointing: CheckpointingConfig | None) -> Disk:
    """Returns the room of one phase. `checkpointing` is None without a store."""
    method = work.sizes.disk
    while_training = 0
    if checkpointing is not None:
        saves = min(checkpointing.keep + 1, steps)
        copies = 3 if work.best is BestState.ignore else 4  # the master, AdamW's moments, and the best state
        while_training = saves * copies * FP32 * sum(work.trained) + method.unsaved_bases
        while_training += method.kept_inputs  # of `preserve.data`; a later phase finds the record of the one before
    return Disk(
        checkpoint=BYTES[work.training.save_dtype] * work.parameters * (2 if work.best is BestState.keep else 1),
        bases=method.bases,
        kept_inputs=method.kept_inputs,
        eigenvectors=method.eigenvectors if checkpointing is not None else 0,
        data=int(TOKEN * data.tokens) + SAMPLE * data.samples,
        while_training=while_training,
    )


@dataclass
class Room:
    """Bytes that the phases of a run need at once, beside their data."""

    run_folder: int
    store: int

    @property
    def total(self) -> int:
        return self.run_folder + self.store


def needed(phases: Sequence[Disk], with_store: bool, one_disk: bool) -> Room:
    """Where the results go to a store, the run folder links to them; on `one_disk` without a copy."""
    if not with_store:
        return Room(sum(phase.result for phase in phases), 0)
    stays = sum(phase.result + phase.eigenvectors for phase in phases)
    if one_disk:
        return Room(0, stays + max((phase.while_training for phase in phases), default=0))
    # The bases begin in the store; the phase's folder gets a copy, and the store one of that, before the rest goes.
    at_once = max((phase.while_training + phase.bases for phase in phases), default=0)
    return Room(max((phase.result for phase in phases), default=0), stays + at_once)
