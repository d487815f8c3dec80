"""Orthogonal Subspace Fine-Tuning: which weights, which directions, how they are kept.

``targets`` and ``decomposition`` are pure; ``layer`` is a torch module; ``sharding``, ``subspace``, ``projection``,
``merging`` run on every rank of a ZeRO-3 group.
"""
