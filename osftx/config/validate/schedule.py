"""Rules for the schedule of unfreeze ratios: ranges, and keys that its kind does not read."""

from collections.abc import Iterator

from osftx.config.schema import ExperimentConfig, ScheduleConfig, ScheduleKind
from osftx.config.validate.ranges import RATIO, out_of_range

SCHEDULE_RANGES = {
    "initial": RATIO,
    "reduction": RATIO,
    "factor": RATIO,
    "minimum": RATIO,
}
# The keys that decide the ratios of each kind (config/schedule.py).
SCHEDULE_READS: dict[ScheduleKind, set[str]] = {
    ScheduleKind.progressive: {"initial", "reduction", "minimum"},
    ScheduleKind.geometric: {"initial", "factor", "minimum"},
    ScheduleKind.constant: {"initial"},
    ScheduleKind.explicit: {"ratios"},
}


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


RULES = (_schedule,)
