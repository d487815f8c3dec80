"""Checks the settings of OSFT: subspace, targets, rank allocation and `preserve`. Needs no torch."""

import re
from collections.abc import Iterator

from osftx.config.schema import (
    ExperimentConfig,
    OsftConfig,
    PhaseConfig,
    PreserveConfig,
    RankAllocation,
)
from osftx.config.validate.ranges import RATIO, at_least, out_of_range
from osftx.methods.osft.rules import RULES, rule_of

OSFT_RANGES = {"minimum_retention": RATIO}
PRESERVE_RANGES = {"max_tokens": at_least(1)}


def _rank_allocation(config: ExperimentConfig) -> Iterator[str]:
    osft = config.osft
    yield from out_of_range("osft", osft, OSFT_RANGES, OsftConfig())
    uniform = osft.rank_allocation is RankAllocation.uniform
    if uniform and osft.minimum_retention != OsftConfig().minimum_retention:
        yield (
            f"osft.minimum_retention={osft.minimum_retention}: not read by osft.rank_allocation=uniform; remove it, or "
            "set osft.rank_allocation=layer_importance"
        )


def _target_patterns(config: ExperimentConfig) -> Iterator[str]:
    patterns = config.osft.target_patterns
    if patterns is None:
        return
    if not patterns:
        yield "osft.target_patterns=[]: no targets; give patterns, or null for those of the model's family"
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"osft.target_patterns={pattern}: not a regular expression ({error}); correct it"


def _subspace(config: ExperimentConfig) -> Iterator[str]:
    if config.osft.subspace not in RULES:
        yield f"osft.subspace={config.osft.subspace}: no such rule; use one of {', '.join(RULES)}"


def _preserve(config: ExperimentConfig) -> Iterator[str]:
    yield from out_of_range("preserve", config.preserve, PRESERVE_RANGES, PreserveConfig())


CHECKS = (_subspace, _rank_allocation, _target_patterns, _preserve)


def problems(config: ExperimentConfig) -> Iterator[str]:
    """Yields every problem of the groups `osft` and `preserve`."""
    for check in CHECKS:
        yield from check(config)


def phase_problems(path: str, phase: PhaseConfig) -> Iterator[str]:
    """Yields every problem of one OSFT phase; `path` is the phase's path, such as `phases.skills`."""
    ratio = phase.unfreeze_rank_ratio
    if ratio is not None and not RATIO.allows(ratio):
        yield f"{path}.unfreeze_rank_ratio={ratio}: must be {RATIO.words}, or null to follow schedule"


def unread(config: ExperimentConfig) -> set[str]:
    """Returns the groups or keys of OSFT that have no effect with these settings."""
    found = set()
    if not rule_of(config.osft).reads_inputs:
        found.add("preserve")
    if config.osft.rank_allocation is RankAllocation.uniform:
        found.add("osft.minimum_retention")
    return found
