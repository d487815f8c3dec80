"""What the target layers read on data that must be kept: E[x x^T], one matrix for each distinct input.

The second moments say which input directions a layer uses, so that the next phase trains in those that it does not
(Wang et al., "Training Networks in Null Space of Feature Covariance", arXiv 2103.07113). They are all that is carried
from phase to phase: matrices, no samples, as roots (`root.py`). Layers that read one tensor (q, k and v; gate and up)
share a matrix; the matrices are spread over the ranks, each one whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from osftx.methods.covariance.cholesky import Root
from osftx.methods.covariance.index import Record, weights_digest
from osftx.utils.manifest import begin, partial_of, seal


def owners(widths: Sequence[int], world_size: int) -> list[int]:
    """The rank that holds the moment of each input: one after the other to whom has least, by n^2 numbers.

    An input's owner depends on those before it alone, so it is known as soon as a first pass comes to it.
    """
    held = [0] * world_size
    chosen = []
    for width in widths:
        rank = held.index(min(held))
        held[rank] += width * width
        chosen.append(rank)
    return chosen


@dataclass
class KeptInputs:
    """E[x x^T] of each distinct input of the targets, added up over everything that must be kept."""

    record: Record
    roots: dict[int, Root]
    """In host memory; by the place of the input in `record.readers`, those that this rank owns."""

    def add(self, other: "KeptInputs", device: torch.device) -> None:
        """Add `other`, measured on a model with the same targets. Each source weighs the same, whatever its size."""
        assert self.record.readers == other.record.readers
        for place, root in other.roots.items():
            self.roots[place] = Root.of(self.roots[place].moment(device) + root.moment(device))
        self.record.sources += other.record.sources

    def save(self, folder: Path, checkpoints: Sequence[Path]) -> None:
        """One safetensors file an input (`rows`, `scales` of its root), written by its owner; the folder appears whole
        or not at all. `checkpoints` are the models that the record is for. Collective."""
        if dist.get_rank() == 0:
            begin(folder)
        dist.barrier()
        for place, root in self.roots.items():
            save_file({"rows": root.rows, "scales": root.scales}, self._file(partial_of(folder), place))
        dist.barrier()
        if dist.get_rank() == 0:
            self.record.weights = [weights_digest(checkpoint) for checkpoint in checkpoints]
            self.record.save(partial_of(folder))
            seal(folder)
        dist.barrier()

    @classmethod
    def load(cls, folder: Path) -> "KeptInputs":
        """What `save` left, on any number of ranks. Raises ConfigurationError when it cannot be read."""
        kept = cls(Record.load(folder), {})
        for place, owner in enumerate(owners(kept.record.widths, dist.get_world_size())):
            if owner == dist.get_rank():
                kept.roots[place] = Root(**load_file(kept._file(folder, place)))
        return kept

    def _file(self, folder: Path, place: int) -> Path:
        return folder / f"{self.record.readers[place][0]}.safetensors"
