"""The curve of a run in one phase: what was learned there, and what was kept of what was taught before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from osftx.compare.matched import Point
from osftx.config.phases import BASE_STATE
from osftx.results.run_record import RunRecord

ENDS = (0, 1)
"""The states before and after a phase, counted from the one before."""
ALL, BASE, EARLIER = PARTS = ("all", "base", "earlier")
"""Parts of what must be kept: everything taught before the phase, what the base knew, what earlier phases taught."""


@dataclass
class Sets:
    """The evaluation sets by what they mean to one phase; a set that a later phase teaches is in none of the lists."""

    taught: list[str]
    """What the phase teaches: how much of it is known is its learning."""
    base: list[str]
    """What the base model knows."""
    earlier: list[str]
    """What the phases before it teach, also those that a run has skipped."""

    def of(self, part: str) -> list[str]:
        """Returns the sets of one of the `PARTS`."""
        return {ALL: [*self.base, *self.earlier], BASE: self.base, EARLIER: self.earlier}[part]

    @property
    def parts(self) -> list[str]:
        """The parts to tell apart: all of `PARTS`, or `all` alone where only one of the others has sets."""
        return list(PARTS) if self.base and self.earlier else [ALL]


def sets_of(run: RunRecord, phase: str) -> Sets:
    """Returns which of the measured evaluation sets means what to a phase of the run."""
    measured, known = run.retention["sets"], run.sets_taught_in(BASE_STATE)
    own, before = run.sets_taught_in(phase), run.sets_to_keep(phase)
    return Sets(
        taught=[name for name in measured if name in own],
        base=[name for name in measured if name in known],
        earlier=[name for name in measured if name in before and name not in known],
    )


def phase_problems(run: RunRecord, phase: str) -> Iterator[str]:
    """Yields why runs like this one cannot be compared in a phase."""
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
    """Returns the measured states of the phase; none where nothing was measured between its start and its end."""
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
    """Returns, by earlier phase of the run, the mean exact match on what it taught, right after it."""
    learned = {}
    for place, earlier in enumerate(run.phase_names[: run.phase_names.index(phase)]):
        if own := sets_of(run, earlier).taught:
            learned[earlier] = _mean(_state(run, place + 1), own)
    return learned


def _state(run: RunRecord, place: int) -> dict[str, dict[str, float]]:
    """What the sets scored after so many phases, in the form of a curve's `evaluation`."""
    return {name: {"exact_match": value} for name, value in run.exact_match[place].items()}


def _point(step: int, evaluation: Mapping[str, Any], sets: Sets) -> Point:
    kept = {part: _mean(evaluation, sets.of(part)) for part in sets.parts}
    return Point(step, _mean(evaluation, sets.taught), kept)


def _mean(evaluation: Mapping[str, Any], names: list[str]) -> float:
    return fmean(evaluation[name]["exact_match"] for name in names)
