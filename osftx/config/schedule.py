"""The unfreeze ratio of each phase that takes one, and advice about it from practice. Pure functions."""

from collections.abc import Mapping

from osftx.config.schema import ScheduleConfig, ScheduleKind

# Guidance from practice. A ratio outside it gives a warning, never an error.
FIRST_LOW, FIRST_HIGH = 0.25, 0.35
REDUCTION_LOW, REDUCTION_HIGH = 0.05, 0.15
LOWEST = 0.1


def unfreeze_ratios(schedule: ScheduleConfig, own: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the ratio of each phase in `own`: its own ratio, or else that of the schedule.

    `own` holds all phases that take a ratio, in order. Each of them advances the schedule, even one that is skipped or
    has a ratio of its own, so that a phase keeps its ratio when a neighbour changes. Ratios are rounded to 6 digits,
    because 0.3 - 0.1 is not 0.2 in binary.
    """
    return {
        name: round(_scheduled(schedule, place) if ratio is None else ratio, 6)
        for place, (name, ratio) in enumerate(own.items())
    }


def _scheduled(schedule: ScheduleConfig, i: int) -> float:
    """Returns the scheduled ratio of the i-th phase that takes one, i from 0."""
    match schedule.kind:
        case ScheduleKind.progressive:
            return max(schedule.minimum, schedule.initial - i * schedule.reduction)
        case ScheduleKind.geometric:
            return max(schedule.minimum, schedule.initial * schedule.factor**i)
        case ScheduleKind.constant:
            return schedule.initial
        case ScheduleKind.explicit:
            return schedule.ratios[i]


def advice(schedule: ScheduleConfig, own: Mapping[str, float | None]) -> list[str]:
    """Returns one line for each ratio outside the guidance: the value, the guidance, the key to change.

    `own` is as in `unfreeze_ratios`.
    """
    ratios = list(unfreeze_ratios(schedule, own).items())
    lines = []
    for i, (name, ratio) in enumerate(ratios):
        value = f"phase {name}: unfreeze ratio {ratio:g}"
        key = _deciding_key(schedule, i, name, own[name])
        if i == 0 and not FIRST_LOW <= ratio <= FIRST_HIGH:
            lines.append(f"{value}; advised for the first phase: {FIRST_LOW:g} to {FIRST_HIGH:g}; change {key}")
        if i > 0:
            before, previous = ratios[i - 1]
            reduction = round(previous - ratio, 6)
            settled_at_floor = 0 <= reduction < REDUCTION_LOW and ratio <= max(schedule.minimum, LOWEST)
            if not REDUCTION_LOW <= reduction <= REDUCTION_HIGH and not settled_at_floor:
                advised = f"advised: {REDUCTION_LOW:g} to {REDUCTION_HIGH:g} less"
                lines.append(f"{value} after {previous:g} in {before}; {advised}; change {key}")
        if ratio < LOWEST:
            floor_key = "schedule.minimum" if key in ("schedule.reduction", "schedule.factor") else key
            lines.append(f"{value}; advised: {LOWEST:g} or more; change {floor_key}")
    return lines


def _deciding_key(schedule: ScheduleConfig, i: int, name: str, own: float | None) -> str:
    """Returns the configuration key that decides the ratio of the i-th phase that takes one."""
    if own is not None:
        return f"phases.{name}.unfreeze_rank_ratio"
    if schedule.kind is ScheduleKind.explicit:
        return "schedule.ratios"
    if i == 0:
        return "schedule.initial"
    if schedule.kind is ScheduleKind.constant:
        return "schedule.kind"
    return "schedule.reduction" if schedule.kind is ScheduleKind.progressive else "schedule.factor"
