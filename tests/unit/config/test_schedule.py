import pytest

from osftx.config.schedule import advice, unfreeze_ratios
from osftx.config.schema import ScheduleConfig, ScheduleKind

FOUR_PHASES: dict[str, float | None] = dict.fromkeys("abcd")
"""None of them has a ratio of its own."""


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleConfig(), [0.3, 0.2, 0.1, 0.1]),
        (ScheduleConfig(initial=0.35, reduction=0.05, minimum=0.25), [0.35, 0.3, 0.25, 0.25]),
        (ScheduleConfig(kind=ScheduleKind.geometric, initial=0.4, factor=0.5), [0.4, 0.2, 0.1, 0.1]),
        (ScheduleConfig(kind=ScheduleKind.constant, initial=0.25), [0.25, 0.25, 0.25, 0.25]),
        (ScheduleConfig(kind=ScheduleKind.explicit, ratios=[0.4, 0.1, 0.0, 1.0]), [0.4, 0.1, 0.0, 1.0]),
    ],
)
def test_each_kind(schedule: ScheduleConfig, expected: list[float]) -> None:
    assert list(unfreeze_ratios(schedule, FOUR_PHASES).values()) == expected


def test_a_ratio_on_a_phase_wins_and_advances_the_schedule() -> None:
    assert unfreeze_ratios(ScheduleConfig(), {"a": 0.0, "b": None}) == {"a": 0.0, "b": 0.2}


def test_ratios_are_rounded() -> None:
    assert 0.3 - 0.1 != 0.2
    assert unfreeze_ratios(ScheduleConfig(), FOUR_PHASES)["b"] == 0.2


def test_no_advice_within_the_guidance() -> None:
    assert advice(ScheduleConfig(), FOUR_PHASES) == []
    assert advice(ScheduleConfig(), {}) == []


@pytest.mark.parametrize(
    ("schedule", "phases", "expected"),
    [
        (
            ScheduleConfig(initial=0.5, reduction=0.15),
            {"a": None},
            ["0.5", "0.25 to 0.35", "schedule.initial"],
        ),
        (ScheduleConfig(), {"a": 0.2}, ["0.2", "0.25 to 0.35", "phases.a.unfreeze_rank_ratio"]),
        (
            ScheduleConfig(reduction=0.01),
            {"a": None, "b": None},
            ["0.29 after 0.3 in a", "schedule.reduction"],
        ),
        (ScheduleConfig(reduction=0.2), {"a": None, "b": None}, ["0.1 after 0.3", "0.05 to 0.15"]),
        (
            ScheduleConfig(),
            {"a": 0.25, "b": 0.3},
            ["0.3 after 0.25", "phases.b.unfreeze_rank_ratio"],
        ),
        (
            ScheduleConfig(kind=ScheduleKind.geometric, factor=0.95),
            {"a": None, "b": None},
            ["0.285 after 0.3", "schedule.factor"],
        ),
        (
            ScheduleConfig(kind=ScheduleKind.constant),
            {"a": None, "b": None},
            ["0.3 after 0.3", "schedule.kind"],
        ),
        (
            ScheduleConfig(kind=ScheduleKind.explicit, ratios=[0.6]),
            {"a": None},
            ["0.6", "0.25 to 0.35", "schedule.ratios"],
        ),
        (
            ScheduleConfig(initial=0.25, reduction=0.15, minimum=0.05),
            {"a": None, "b": None, "c": None},
            ["phase c: unfreeze ratio 0.05", "0.1 or more", "schedule.minimum"],
        ),
    ],
)
def test_advice_names_value_guidance_and_key(
    schedule: ScheduleConfig, phases: dict[str, float | None], expected: list[str]
) -> None:
    lines = advice(schedule, phases)
    assert len(lines) == 1
    assert all(part in lines[0] for part in expected), lines
