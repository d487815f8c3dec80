"""Activation-based subspaces: the input directions that a layer uses least on what must be kept are trainable.

The rule follows Gradient Projection Memory (Saha et al., arXiv 2103.09762) on the input side alone, with directions
chosen from the covariance of the inputs (Wang et al., arXiv 2103.07113). Importing this module needs no torch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

from osftx.methods.osft.subspace_rule import SubspaceRule, UpdateShape, frozen_rank
from osftx.models.targets import Target
from osftx.utils.progress import progress

if TYPE_CHECKING:
    from osftx.distributed.source_weights import SourceWeights
    from osftx.methods.covariance.covariance import InputCovariance
    from osftx.methods.osft.eigenvector_cache import EigenvectorCache
    from osftx.methods.osft.subspace import FoundBases, Matrix


class ByActivations(SubspaceRule):
    """Chooses the least used input directions.

    All matrices of a fused weight read the same inputs and share one subspace.
    """

    name = "activations"
    reads_inputs = True

    def updates(self, target: Target, ratio: float) -> list[UpdateShape]:
        shape = (sum(rows for rows, _ in target.blocks), target.in_features)
        return [UpdateShape(target.name, shape, True, shape[1] - frozen_rank(shape[1], ratio))]

    def frozen_rank(self, update: UpdateShape) -> int:
        return 0

    def find(
        self,
        matrices: "Sequence[Matrix]",
        source: "SourceWeights",
        covariance: "InputCovariance | None",
        cache: "EigenvectorCache",
    ) -> "Iterator[FoundBases]":
        """Yields the bases of every matrix. Collective.

        Each rank decomposes the covariances that it owns, one at a time.
        """
        import torch
        import torch.distributed as dist

        from osftx.distributed.collectives import from_owner
        from osftx.methods.covariance.covariance import owners
        from osftx.methods.osft.decomposition import Bases, input_share, input_vectors, split_by_inputs
        from osftx.methods.osft.subspace import FoundBases, UseOfKept, gather

        assert covariance is not None
        rank, world_size = dist.get_rank(), dist.get_world_size()
        of_module = {matrix.module_name: matrix for matrix in matrices}
        device = matrices[0].weight.device
        record = covariance.record
        places: list[list[int]] = [[] for _ in range(world_size)]
        for place, owner in enumerate(owners(record.widths, world_size)):
            if record.readers[place][0] in of_module:  # all readers of an input are in one layer, with one ratio
                places[owner].append(place)
        with progress("decomposing", total=len(record.readers), unit="inputs") as bar:
            for group in zip_longest(*places):  # one covariance per rank while it has any left
                moment, own = torch.empty(0), None
                if (mine := group[rank]) is not None:
                    moment = covariance.factors[mine].moment(device)
                    vectors = cache.of("moment", moment, partial(input_vectors, moment))
                    own = list(split_by_inputs(moment, of_module[record.readers[mine][0]].shape.free_rank, vectors))
                for owner, place in enumerate(group):
                    if place is None:
                        continue
                    readers = [of_module[name] for name in record.readers[place]]
                    n, r = readers[0].shape.shape[1], readers[0].shape.free_rank
                    free, energy = from_owner(own if owner == rank else None, [(n, r), (r, r)], owner, device)
                    for matrix in readers:
                        weight = gather(matrix, source, owner)
                        use = torch.zeros(2, dtype=torch.float64, device=device)
                        if weight is not None:
                            power = (weight.double() @ moment * weight).sum()
                            use.copy_(torch.stack([power, input_share(energy, moment)]))
                        dist.broadcast(use, owner)
                        bases = Bases(True, free, free.new_empty(matrix.shape.shape[0], 0), energy)
                        yield FoundBases(matrix, bases, UseOfKept(*use.tolist()))
                    bar.update()
