"""How much was kept at each amount learned, from the evaluation during the phases. Pure.

Comparing runs at their ends alone flatters a run that has learned less and so forgotten less; the curve shows what was
kept when as much had been learned.
"""

from dataclasses import dataclass
from statistics import fmean

from osftx.results.run_record import RunRecord


@dataclass
class TradeOff:
    """What one phase learned and kept at each measured state, from the state before it to its last step."""

    place: int
    """The place of the phase in the run, from 0."""
    learned: list[float]
    """Exact match, mean of the sets that the phase teaches."""
    kept: list[float]
    """Exact match, mean of the sets that were taught before: in an earlier phase, or known to the base."""


@dataclass
class SetCurve:
    """The exact match of one set during one phase."""

    set_name: str
    place: int
    """The place of the phase in the run, from 0."""
    steps: list[int]
    """Optimizer steps since the run's first."""
    exact_match: list[float]


def trade_offs(run: RunRecord) -> list[TradeOff]:
    """Returns that of each phase that was measured on its way, if it teaches a set and another was taught before."""
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
    """Returns that of each set in each phase that was measured on its way, in the order of phases and sets."""
    curves = []
    for place, (phase, begin) in enumerate(zip(run.phases, run.steps_before, strict=True)):
        for name in phase.curve[0]["evaluation"] if phase.curve else ():
            steps = [begin + point["step"] for point in phase.curve]
            values = [point["evaluation"][name]["exact_match"] for point in phase.curve]
            curves.append(SetCurve(name, place, steps, values))
    return curves
