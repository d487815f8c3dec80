"""Weight-based subspaces: the smallest singular directions of each weight are trainable, on both sides.

Source: Nayak et al., "Sculpting Subspaces" (arXiv 2504.07097), section 3. Importing this module needs no torch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from osftx.methods.osft.subspace_rule import SubspaceRule, UpdateShape, frozen_rank
from osftx.models.targets import Target
from osftx.utils.progress import progress

if TYPE_CHECKING:
    from osftx.distributed.source_weights import SourceWeights
    from osftx.methods.covariance.covariance import InputCovariance
    from osftx.methods.osft.eigenvector_cache import EigenvectorCache
    from osftx.methods.osft.subspace import FoundBases, Matrix


class ByWeights(SubspaceRule):
    """Chooses the smallest singular directions.

    Each matrix of a fused weight has a subspace of its own, on its short side.
    """

    name = "weights"
    reads_inputs = False

    def updates(self, target: Target, ratio: float) -> list[UpdateShape]:
        fused = len(target.blocks) > 1
        return [
            UpdateShape(
                f"{target.name}[{index}]" if fused else target.name,
                shape,
                shape[0] >= shape[1],
                min(shape) - frozen_rank(min(shape), ratio),
            )
            for index, shape in enumerate(target.blocks)
        ]

    def frozen_rank(self, update: UpdateShape) -> int:
        return min(update.shape) - update.free_rank

    def find(
        self,
        matrices: "Sequence[Matrix]",
        source: "SourceWeights",
        covariance: "InputCovariance | None",
        cache: "EigenvectorCache",
    ) -> "Iterator[FoundBases]":
        """Yields the bases of every matrix. Collective.

        Each rank computes one matrix of each group, so that none holds more than two full weights.
        """
        import torch.distributed as dist

        from osftx.distributed.collectives import from_owner
        from osftx.methods.osft.decomposition import Bases, short_side_vectors, split_by_weight
        from osftx.methods.osft.subspace import FoundBases, gather

        rank, world_size = dist.get_rank(), dist.get_world_size()
        with progress("decomposing", total=len(matrices), unit="weights") as bar:
            for first in range(0, len(matrices), world_size):
                group = matrices[first : first + world_size]
                gathered = [gather(matrix, source, owner) for owner, matrix in enumerate(group)]
                mine = gathered[rank] if rank < len(group) else None
                own = None
                if mine is not None:
                    vectors = cache.of("gram", mine, partial(short_side_vectors, mine))
                    own = split_by_weight(mine, group[rank].shape.free_rank, vectors)
                for owner, matrix in enumerate(group):
                    short, long = sorted(matrix.shape.shape)
                    free_rank = matrix.shape.free_rank
                    free, frozen = from_owner(
                        [own.free, own.frozen] if own is not None and owner == rank else None,
                        [(short, free_rank), (long, short - free_rank)],
                        owner,
                        matrix.weight.device,
                    )
                    yield FoundBases(matrix, Bases(matrix.shape.on_input, free, frozen, free.new_empty(0, 0)), None)
                    bar.update()
