"""The curve of a run in one phase: what it learned there and what it kept of what was taught before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from osftx.compare.matched import Point
from osftx.config.phases import BASE_STATE
from osftx.results.run_record import RunRecord

ENDS = (0, 1)
"""Numbers of phases after which the end points are measured, counted from the state before the phase."""
ALL, BASE, EARLIER = PARTS = ("all", "base", "earlier")
"""Parts of what must be kept: everything taught before the phase, what the base knew, what earlier phases taught."""


@dataclass
class Sets:
    """The evaluation sets by their role in one phase; a set that a later phase teaches is in none of the lists."""

    taught: list[str]
    """Sets that the phase teaches; the exact match on them is its learning."""
    base: list[str]
    """Sets that the base model knows."""
    earlier: list[str]
    """Sets that the earlier phases teach, including phases that the run skipped."""

    def of(self, part: str) -> list[str]:
        """Returns the sets of one of the `PARTS`."""
        return {ALL: [*self.base, *self.earlier], BASE: self.base, EARLIER: self.earlier}[part]

    @property
    def parts(self) -> list[str]:
        """The parts to distinguish: all `PARTS`, or `all` alone if only one of the other two has sets."""
        return list(PARTS) if self.base and self.earlier else [ALL]


def sets_of(run: RunRecord, phase: str) -> Sets:
    """Returns the role of each measured evaluation set in a phase of the run."""
    measured, known = run.retention["sets"], run.sets_taught_in(BASE_STATE)
    own, before = run.sets_taught_in(phase), run.sets_to_keep(phase)
    return Sets(
        taught=[name for name in measured if name in own],
        base=[name for name in measured if name in known],
        earlier=[name for name in measured if name in before and name not in known],
    )


def phase_problems(run: RunRecord, phase: str) -> Iterator[str]:
    """Yields the reasons why runs like this one cannot be compared in a phase."""
    if phase not in run.phase_names:
        yield f"--phase {phase}: no such phase; give one of {', '.join(run.phase_names)}"
        return
    sets = sets_of(run, phase)
    if not sets.taught:
        others = [name for name in run.phase_names if sets_of(run, name).taught]
        instead = f"give --phase {' or '.join(others)}, or evaluate" if others else "evaluate"
        yield (
            f"phase {phase}: no evaluation set shows what it taught; {instead} the runs with a set of its name, or "
            f"with evaluation.sets.NAME.learned_in={phase}"
        )
    if not sets.of(ALL):
        yield (
            f"phase {phase}: no evaluation set was taught before it, so nothing shows what was kept; evaluate the runs "
            "with a set that the base model knows, or give another --phase"
        )


def curve_of(run: RunRecord, phase: str, sets: Sets) -> list[Point]:
    """Returns the measured states of the phase; an empty list if nothing was measured between its start and its end."""
    states = run.phases[run.phase_names.index(phase)].curve
    if len(states) <= len(ENDS):
        return []
    return [_point(state["step"], state["evaluation"], sets) for state in states]


def end_points(run: RunRecord, phase: str, sets: Sets) -> list[Point]:
    """Returns the states before and after the phase, which every run has."""
    place = run.phase_names.index(phase)
    steps = run.phases[place].result["steps"]
    return [_point(step, _state(run, place + after), sets) for after, step in zip(ENDS, (0, steps), strict=True)]


def learned_before(run: RunRecord, phase: str) -> dict[str, float]:
    """Returns the mean exact match on what each earlier phase of the run taught, right after that phase, by phase."""
    learned = {}
    for place, earlier in enumerate(run.phase_names[: run.phase_names.index(phase)]):
        if own := sets_of(run, earlier).taught:
            learned[earlier] = _mean(_state(run, place + 1), own)
    return learned


def _state(run: RunRecord, place: int) -> dict[str, dict[str, float]]:
    """Returns the exact match on each set after `place` phases, in the format of a curve's `evaluation`."""
    return {name: {"exact_match": value} for name, value in run.exact_match[place].items()}


def _point(step: int, evaluation: Mapping[str, Any], sets: Sets) -> Point:
    kept = {part: _mean(evaluation, sets.of(part)) for part in sets.parts}
    return Point(step, _mean(evaluation, sets.taught), kept)


def _mean(evaluation: Mapping[str, Any], names: list[str]) -> float:
    return fmean(evaluation[name]["exact_match"] for name in names)
