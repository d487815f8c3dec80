"""The disk space that phases take: what each phase leaves, and what exists only while it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from osftx.config.schema import BestState, CheckpointingConfig
from osftx.data.samples import DataSummary
from osftx.methods.sizes import BYTES, FP32, Workload

TOKEN = 4.125
"""Bytes of a stored token: an int32, and the bit that says whether it counts."""
SAMPLE = 24
"""Bytes of a stored sample besides its tokens: the ends of its lists, and its length and digest in the index."""


@dataclass
class Disk:
    """Estimated disk space of one phase in bytes."""

    checkpoint: int
    """The checkpoint; two checkpoints with `validation.best=keep`."""
    bases: int
    """The fp32 bases that the phase leaves; 0 with `osft.save_bases=false`."""
    kept_inputs: int
    """The input covariance that the phase leaves."""
    eigenvectors: int
    """Decompositions in the store, which later runs use; 0 without a store."""
    data: int
    """The tokenised samples of the phase."""
    while_training: int
    """Further files that exist only while the phase trains, such as its saves, one of which is being written."""

    @property
    def result(self) -> int:
        """Bytes that the phase leaves in its folder."""
        return self.checkpoint + self.bases + self.kept_inputs

    def without_bases(self, with_store: bool) -> "Disk":
        """Returns the space with `osft.save_bases=false`. With a store the bases still exist while the phase trains."""
        return replace(self, bases=0, while_training=self.while_training + (self.bases if with_store else 0))


def of_phase(work: Workload, data: DataSummary, steps: int, checkpointing: CheckpointingConfig | None) -> Disk:
    """Returns the disk space of one phase. `checkpointing` is None without a store."""
    method = work.sizes.disk
    while_training = 0
    if checkpointing is not None:
        saves = min(checkpointing.keep + 1, steps)
        copies = 3 if work.best is BestState.ignore else 4  # the master, AdamW's moments, and the best state
        while_training = saves * copies * FP32 * sum(work.trained) + method.unsaved_bases
        # The input covariance of `preserve.data`; a later phase finds that of the previous phase.
        while_training += method.kept_inputs
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
    """Bytes that the phases of a run need at the same time, without their data."""

    run_folder: int
    store: int

    @property
    def total(self) -> int:
        return self.run_folder + self.store


def needed(phases: Sequence[Disk], with_store: bool, one_disk: bool) -> Room:
    """Returns the space that all `phases` need.

    With a store, the results go there and the run folder links to them. On `one_disk` this takes no copy.
    """
    if not with_store:
        return Room(sum(phase.result for phase in phases), 0)
    stays = sum(phase.result + phase.eigenvectors for phase in phases)
    if one_disk:
        return Room(0, stays + max((phase.while_training for phase in phases), default=0))
    # The bases are first written in the store. They are then copied to the phase's folder, and from there into the
    # entry of the store, before the first two are removed.
    at_once = max((phase.while_training + phase.bases for phase in phases), default=0)
    return Room(max((phase.result for phase in phases), default=0), stays + at_once)
