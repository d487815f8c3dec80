"""Every problem of the settings at once: the general rules, then those of the methods."""

import math

import pytest
from valid_config import changed

from osftx.config.schema import ScheduleKind
from osftx.planning.validate import problems


def test_a_valid_configuration_has_no_problem() -> None:
    assert problems(changed()) == []


def test_an_unknown_method_is_told_at_its_phase_with_those_that_there_are() -> None:
    assert problems(changed(phases__second__method="lora")) == [
        "phases.second.method=lora: no such method; use one of osft, sft, or an import path MODULE.CLASS"
    ]


def test_an_import_path_that_is_no_method_is_told_at_its_phase() -> None:
    assert problems(changed(phases__second__method="math.floor")) == [
        "phases.second.method=math.floor: is no subclass of osftx.methods.base.Method; correct the path"
    ]


def test_the_rules_of_a_method_are_asked_whether_a_phase_uses_it_or_not() -> None:
    every = {"phases__first__method": "sft", "phases__second__method": "sft"}
    for changes in ({}, {"phases__first__method": "lora"}, every):
        lines = problems(changed(**changes, osft__target_patterns=[]))
        assert [line for line in lines if line.startswith("osft.target_patterns=[]: ")] == lines[-1:]


def test_what_is_wrong_anywhere_is_told_at_once_the_general_rules_first() -> None:
    lines = problems(
        changed(
            osft__target_patterns=[],
            phases__first__method="lora",
            phases__second__unfreeze_rank_ratio=2.0,
            schedule__kind="explicit",
            schedule__ratios=[0.3, 0.2],
            training__beta1=2.0,
        )
    )
    assert [line.split("=")[0] for line in lines] == [
        "training.beta1",
        "phases.first.method",
        "osft.target_patterns",
        "phases.second.unfreeze_rank_ratio",
        "schedule.ratios",
    ]


@pytest.mark.parametrize(
    ("ratios", "count"),
    [([0.3], 1), ([0.3, 0.2, 0.1], 1), ([0.3, 1.2], 1), ([math.nan, 0.1], 1), ([0.0, 1.0], 0)],
)
def test_explicit_ratios_are_one_for_each_osft_phase(ratios: list[float], count: int) -> None:
    lines = problems(changed(schedule__kind=ScheduleKind.explicit, schedule__ratios=ratios))
    assert len(lines) == count
    assert all(line.startswith(f"schedule.ratios={ratios}: ") for line in lines)


def test_a_phase_that_takes_no_ratio_is_not_counted() -> None:
    explicit = {"schedule__kind": ScheduleKind.explicit, "phases__second__method": "sft"}
    assert problems(changed(**explicit, schedule__ratios=[0.3])) == []
    (line,) = problems(changed(**explicit, schedule__ratios=[0.3, 0.2]))
    assert line.startswith("schedule.ratios=[0.3, 0.2]: 2 for 1 ")
