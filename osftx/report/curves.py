"""What the evaluation during the phases shows: how much was kept at each amount learned. Pure.

Comparing runs at their ends alone flatters one that has learned less and so forgotten less; the way to the end shows
what was kept when as much was learned.
"""

from dataclasses import dataclass
from statistics import fmean

from osftx.results.run_reader import Run


@dataclass
class TradeOff:
    """One phase, from the state before it to its last step."""

    place: int
    """Of the phase in the run, from 0."""
    learned: list[float]
    """Exact match, mean of the sets that the phase teaches."""
    kept: list[float]
    """Exact match, mean of the sets that were taught before: in an earlier phase, or known to the base."""


@dataclass
class SetCurve:
    """The exact match of one set during one phase."""

    set_name: str
    place: int
    """Of the phase in the run, from 0."""
    steps: list[int]
    """Optimizer steps since the run's first."""
    exact_match: list[float]


def trade_offs(run: Run) -> list[TradeOff]:
    """Of each phase that was measured on its way, if it teaches a set and another was taught before."""
    names = [phase.name for phase in run.phases]
    found = []
    for place, phase in enumerate(run.phases):
        measured = [point["evaluation"] for point in phase.curve]
        sets = [name for name in run.taught_in if measured and name in measured[0]]
        own = [name for name in sets if run.taught_in[name] == phase.name]
        before = [name for name in sets if run.taught_in[name] not in names[place:]]
        if own and before:
            learned, kept = (
                [fmean(sets[name]["exact_match"] for name in chosen) for sets in measured] for chosen in (own, before)
            )
            found.append(TradeOff(place, learned, kept))
    return found


def set_curves(run: Run) -> list[SetCurve]:
    """Of each set in each phase that was measured on its way, in the order of phases and sets."""
    curves = []
    for place, (phase, begin) in enumerate(zip(run.phases, run.steps_before, strict=True)):
        for name in phase.curve[0]["evaluation"] if phase.curve else ():
            steps = [begin + point["step"] for point in phase.curve]
            values = [point["evaluation"][name]["exact_match"] for point in phase.curve]
            curves.append(SetCurve(name, place, steps, values))
    return curves
