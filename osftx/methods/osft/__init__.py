"""Orthogonal Subspace Fine-Tuning (OSFT): which weights and directions are trained, and how the others stay unchanged.

`method`, `settings`, `preserve`, `rank_allocation`, `rules` and `sizes` serve the launching process and import no
torch. `decomposition` is pure linear algebra, and `layer` is a torch module. The other modules, such as `opened`,
`setup`, `projection` and `weight_update`, run on every rank of a ZeRO-3 group.
"""
