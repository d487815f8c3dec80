"""Holds the input covariance of target layers on data that must be kept: E[x x^T], one matrix per distinct input.

The uncentred second moments show which input directions a layer uses, so that the next phase trains in the directions
that it does not use (Wang et al., "Training Networks in Null Space of Feature Covariance", arXiv 2103.07113). Only the
moments are passed from phase to phase, as Cholesky factors: matrices, no samples. Layers that read the same tensor (q,
k and v; gate and up) share a matrix. The matrices are distributed over the ranks, each of them whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from osftx.methods.covariance.cholesky import CholeskyFactor
from osftx.methods.covariance.index import Record, weights_digest
from osftx.utils.manifest import begin, partial_of, seal


def owners(widths: Sequence[int], world_size: int) -> list[int]:
    """Returns the rank that holds the matrix of each input; each goes to the rank with the fewest numbers so far.

    `widths` are the numbers of features n of the inputs; a matrix has n^2 numbers. The owner of an input depends only
    on the inputs before it, so it is known as soon as the first pass reaches the input.
    """
    held = [0] * world_size
    chosen = []
    for width in widths:
        rank = held.index(min(held))
        held[rank] += width * width
        chosen.append(rank)
    return chosen


@dataclass
class InputCovariance:
    """E[x x^T] of each distinct input of the targets, summed over all sources that must be kept."""

    record: Record
    factors: dict[int, CholeskyFactor]
    """Factors that this rank owns, in host memory, by the place of the input in `record.readers`."""

    def add(self, other: "InputCovariance", device: torch.device) -> None:
        """Adds `other`, measured on a model with the same targets.

        Each source has the same weight, whatever its size.
        """
        assert self.record.readers == other.record.readers
        for place, factor in other.factors.items():
            self.factors[place] = CholeskyFactor.of(self.factors[place].moment(device) + factor.moment(device))
        self.record.sources += other.record.sources

    def save(self, folder: Path, checkpoints: Sequence[Path]) -> None:
        """Writes one safetensors file (`rows` and `scales` of the factor) per input, on the rank that owns the input.

        The folder appears complete or not at all. `checkpoints` are the models that the record belongs to. Collective.
        """
        if dist.get_rank() == 0:
            begin(folder)
        dist.barrier()
        for place, factor in self.factors.items():
            save_file({"rows": factor.rows, "scales": factor.scales}, self._file(partial_of(folder), place))
        dist.barrier()
        if dist.get_rank() == 0:
            self.record.weights = [weights_digest(checkpoint) for checkpoint in checkpoints]
            self.record.save(partial_of(folder))
            seal(folder)
        dist.barrier()

    @classmethod
    def load(cls, folder: Path) -> "InputCovariance":
        """Returns what `save` wrote, on any number of ranks. Raises ConfigurationError if it cannot be read."""
        kept = cls(Record.load(folder), {})
        for place, owner in enumerate(owners(kept.record.widths, dist.get_world_size())):
            if owner == dist.get_rank():
                kept.factors[place] = CholeskyFactor(**load_file(kept._file(folder, place)))
        return kept

    def _file(self, folder: Path, place: int) -> Path:
        return folder / f"{self.record.readers[place][0]}.safetensors"
