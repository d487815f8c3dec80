"""What is free and what is kept: the schedule of ratios, targets, ranks, `preserve`."""

import re
from collections.abc import Iterator

from osftx.config.schema import (
    ExperimentConfig,
    Method,
    OsftConfig,
    PreserveConfig,
    RankAllocation,
    ScheduleConfig,
    ScheduleKind,
)
from osftx.config.validate.ranges import RATIO, at_least, out_of_range

SCHEDULE_RANGES = {
    "initial": RATIO,
    "reduction": RATIO,
    "factor": RATIO,
    "minimum": RATIO,
}
# The keys that decide the ratios of each kind (schedule.py).
SCHEDULE_READS: dict[ScheduleKind, set[str]] = {
    ScheduleKind.progressive: {"initial", "reduction", "minimum"},
    ScheduleKind.geometric: {"initial", "factor", "minimum"},
    ScheduleKind.constant: {"initial"},
    ScheduleKind.explicit: {"ratios"},
}
OSFT_RANGES = {"minimum_retention": RATIO}
PRESERVE_RANGES = {"max_tokens": at_least(1)}


def _schedule(config: ExperimentConfig) -> Iterator[str]:
    schedule, defaults = config.schedule, ScheduleConfig()
    read = SCHEDULE_READS[schedule.kind]
    ranges = {key: allowed for key, allowed in SCHEDULE_RANGES.items() if key in read}
    yield from out_of_range("schedule", schedule, ranges, defaults)
    for key, default in vars(defaults).items():
        value = getattr(schedule, key)
        if key not in ("kind", *read) and value != default:
            readers = " or ".join(kind.name for kind, keys in SCHEDULE_READS.items() if key in keys)
            yield (
                f"schedule.{key}={value}: not read by schedule.kind={schedule.kind.name}; "
                f"remove it, or set schedule.kind={readers}"
            )
    if "minimum" in read and schedule.minimum > schedule.initial:
        yield (
            f"schedule.minimum={schedule.minimum}: above schedule.initial={schedule.initial}, "
            f"which would have no effect; set schedule.minimum={schedule.initial} or less"
        )


def _explicit_ratios(config: ExperimentConfig) -> Iterator[str]:
    kind, ratios = config.schedule.kind, config.schedule.ratios
    path = f"schedule.ratios={ratios}"
    if kind is not ScheduleKind.explicit:
        return
    count = sum(phase.method is Method.osft for phase in config.phases.values())
    if len(ratios) != count:
        yield f"{path}: {len(ratios)} for {count} OSFT phases; give {count}, in the order of the phases"
    if not all(RATIO.allows(ratio) for ratio in ratios):
        yield f"{path}: each must be {RATIO.words}; correct those outside"


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


def _preserve(config: ExperimentConfig) -> Iterator[str]:
    yield from out_of_range("preserve", config.preserve, PRESERVE_RANGES, PreserveConfig())


RULES = (_schedule, _explicit_ratios, _rank_allocation, _target_patterns, _preserve)
