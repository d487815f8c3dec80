"""From a run to its curve in one phase: what was learned there, and what was kept of what came before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from osftx.compare.matched import Point
from osftx.compare.runs import RunRecord
from osftx.config.phases import BASE_STATE, ordered_phases, taught_in

ENDS = (0, 1)
"""States before the phase and after it, by place from the one before."""
ALL, BASE, EARLIER = PARTS = ("all", "base", "earlier")
"""What was taught before the phase; what the base model knew; what an earlier phase taught."""


@dataclass
class Sets:
    """The evaluation sets by what they mean to one phase; those that a later phase teaches are in none."""

    taught: list[str]
    """What the phase teaches: how much of it is known is its learning."""
    base: list[str]
    earlier: list[str]
    """What the phases before it teach, those that a run has skipped included."""

    def of(self, part: str) -> list[str]:
        return {ALL: [*self.base, *self.earlier], BASE: self.base, EARLIER: self.earlier}[part]

    @property
    def parts(self) -> list[str]:
        """Those that have sets; `all` alone where it would be the same as the other one."""
        return list(PARTS) if self.base and self.earlier else [ALL]


def sets_of(run: RunRecord, phase: str) -> Sets:
    """Which evaluation set means what to a phase of the run."""
    order = list(ordered_phases(run.config))
    before = order[: order.index(phase)]
    taught = _teachers(run)
    return Sets(
        taught=[name for name, teacher in taught.items() if teacher == phase],
        base=[name for name, teacher in taught.items() if teacher == BASE_STATE],
        earlier=[name for name, teacher in taught.items() if teacher in before],
    )


def phase_problems(run: RunRecord, phase: str) -> Iterator[str]:
    """Why runs like this one cannot be compared in a phase."""
    if phase not in run.phases:
        yield f"--phase {phase}: no such phase; give one of {', '.join(run.phases)}"
        return
    sets = sets_of(run, phase)
    if not sets.taught:
        others = [name for name in run.phases if name in _teachers(run).values()]
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
    """The states in the phase that were measured; empty where nothing was measured between its start and its end."""
    states = run.results["phases"][run.phases.index(phase)].get("curve") or []
    if len(states) <= len(ENDS):
        return []
    return [_point(state["step"], state["evaluation"], sets) for state in states]


def end_points(run: RunRecord, phase: str, sets: Sets) -> list[Point]:
    """The states before and after the phase, which every run has."""
    place = run.phases.index(phase)
    steps = run.results["phases"][place]["steps"]
    return [_point(step, _row(run, place + after), sets) for after, step in zip(ENDS, (0, steps), strict=True)]


def learned_before(run: RunRecord, phase: str) -> dict[str, float]:
    """By earlier phase of the run: exact match on what it taught, right after it."""
    taught = _teachers(run)
    learned = {}
    for place, earlier in enumerate(run.phases[: run.phases.index(phase)]):
        own = [name for name, teacher in taught.items() if teacher == earlier]
        if own:
            learned[earlier] = _mean(_row(run, place + 1), own)
    return learned


def _teachers(run: RunRecord) -> dict[str, str]:
    """By evaluation set the phase that teaches it, or `base`."""
    return {name: taught_in(run.config, name) for name in run.results["retention"]["sets"]}


def _row(run: RunRecord, state: int) -> dict[str, dict[str, float]]:
    retention = run.results["retention"]
    values = retention["metrics"]["exact_match"][state]
    return {name: {"exact_match": value} for name, value in zip(retention["sets"], values, strict=True)}


def _point(step: int, evaluation: Mapping[str, Any], sets: Sets) -> Point:
    kept = {part: _mean(evaluation, sets.of(part)) for part in sets.parts}
    return Point(step, _mean(evaluation, sets.taught), kept)


def _mean(evaluation: Mapping[str, Any], names: list[str]) -> float:
    return fmean(evaluation[name]["exact_match"] for name in names)
