"""Curves of retention against learning, from the evaluation during the phases. Pure.

A comparison at the end of the runs alone favours a run that learned less and therefore forgot less. The curve shows
what each run kept at equal learning.
"""

from dataclasses import dataclass
from statistics import fmean

from osftx.results.run_record import RunRecord


@dataclass
class TradeOff:
    """Learning and retention at each measured state of one phase, from the state before the phase to its last step."""

    place: int
    """Index of the phase in the run, from 0."""
    learned: list[float]
    """Mean exact match on the sets that the phase teaches."""
    kept: list[float]
    """Mean exact match on the sets taught before: in an earlier phase, or known to the base model."""


@dataclass
class SetCurve:
    """Exact match on one evaluation set during one phase."""

    set_name: str
    place: int
    """Index of the phase in the run, from 0."""
    steps: list[int]
    """Optimizer steps since the first step of the run."""
    exact_match: list[float]


def trade_offs(run: RunRecord) -> list[TradeOff]:
    """Returns one trade-off for each phase with a curve that teaches a set and has earlier sets to keep."""
    found = []
    for place, phase in enumerate(run.phases):
        measured = [point["evaluation"] for point in phase.curve]
        own, before = (
            [name for name in sets if measured and name in measured[0]]
            for sets in (run.sets_taught_in(phase.name), run.sets_to_keep(phase.name))
        )
        if own and before:
            learned, kept = (
                [fmean(sets[name]["exact_match"] for name in chosen) for sets in measured] for chosen in (own, before)
            )
            found.append(TradeOff(place, learned, kept))
    return found


def set_curves(run: RunRecord) -> list[SetCurve]:
    """Returns one curve for each set in each phase with measurements, ordered by phase, then by set."""
    curves = []
    for place, (phase, begin) in enumerate(zip(run.phases, run.steps_before, strict=True)):
        for name in phase.curve[0]["evaluation"] if phase.curve else ():
            steps = [begin + point["step"] for point in phase.curve]
            values = [point["evaluation"][name]["exact_match"] for point in phase.curve]
            curves.append(SetCurve(name, place, steps, values))
    return curves
