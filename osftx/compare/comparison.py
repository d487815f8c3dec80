"""The comparison as plain data, the source of the tables, the figure and comparison.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from osftx.compare.curves import Sets, curve_of, end_points, learned_before, phase_problems, sets_of
from osftx.compare.groups import Group, group_problems, groups_of, short
from osftx.compare.matched import TOLERANCE, Curve, Point, at_level, common_level, highest
from osftx.compare.runs import LabelledRun
from osftx.compare.same import other_experiments
from osftx.compare.statistics import Estimate, estimate, paired_difference
from osftx.errors import ConfigurationError
from osftx.results.retention import FIGURES
from osftx.results.run_record import RunRecord

SAME_LEARNING = 0.02
"""Largest difference in exact match at which learning counts as equal."""

MEASURES = (*FIGURES, "tokens", "training_s", "peak_memory_gb")
"""Names of the figures of each whole run."""


@dataclass
class ComparedRun:
    """One run in the phase that is compared."""

    folder: str
    seeds: tuple[int, ...]
    reused: bool
    """Whether phases were taken from the store; their time is then that of their original training."""
    measures: dict[str, float | None]
    """Figures of the whole run, by name in `MEASURES`."""
    learned_before: dict[str, float]
    """Exact match on what each earlier phase teaches, measured right after that phase."""
    curve: list[Point]
    """Measured states of the phase; only the states before and after it if there is no curve."""
    highest_learning: float
    """Highest exact match on what the phase teaches, over all measured states."""
    compared: Point | None
    """State at the matched level, or the end point; None if the run does not reach the level."""


@dataclass
class ComparedGroup:
    """Runs that differ only in the seed."""

    label: str
    settings: dict[str, str]
    """Settings that are not the same in all groups, by short key."""
    runs: list[ComparedRun]
    measures: dict[str, Estimate | None]
    """Means of the figures of the whole runs, by name in `MEASURES`."""
    learned_before: dict[str, Estimate | None]
    """Exact match on what each earlier phase teaches, measured right after that phase."""
    learning: Estimate | None
    """Exact match on what the phase teaches, at the compared state."""
    steps: Estimate | None
    """Optimizer steps of the phase up to the compared state."""
    kept: dict[str, Estimate | None]
    """Exact match on what was taught before, at the compared state, by part."""
    difference: dict[str, Estimate | None] = field(default_factory=dict)
    """Difference in what is kept against the first group, paired by seed, by part; empty for the first group."""

    @property
    def seeds(self) -> int:
        """Number of runs."""
        return len(self.runs)


@dataclass
class Comparison:
    """Groups of runs, compared in one phase at one level of learning."""

    phase: str
    sets: Sets
    level: float | None
    """Level of learning at which all groups are compared; None if there are only end points."""
    chosen: bool
    """Whether the user chose the level; otherwise it is the highest that every run reaches."""
    groups: list[ComparedGroup]
    """The compared groups; the first one is the reference."""
    no_curve: list[str]
    """Folders of the runs without a curve."""
    left_out: list[str]
    """Jobs of sweeps that did not finish, with the reason."""
    other_hardware: bool
    """Whether the runs used different numbers or kinds of devices."""

    @property
    def reference(self) -> ComparedGroup:
        return self.groups[0]

    @property
    def start(self) -> float:
        """Highest exact match that any run has on what the phase teaches before the phase."""
        return max(run.curve[0].learning for group in self.groups for run in group.runs)

    @property
    def nothing_learned(self) -> bool:
        """Whether some run has not learned anything yet at the level."""
        return self.level is not None and self.level <= self.start + TOLERANCE


def compare(
    labelled: Sequence[LabelledRun], left_out: Sequence[str], phase: str | None, level: float | None
) -> Comparison:
    """Returns the comparison in a phase (None: the last one) at a level of learning (None: the highest that all reach).

    Raises ConfigurationError if the runs cannot be compared.
    """
    runs = [one.run for one in labelled]
    if problems := list(other_experiments(runs)):
        raise ConfigurationError(problems)
    groups = groups_of(labelled)
    phase = phase if phase is not None else runs[0].phase_names[-1]
    if problems := [*group_problems(groups), *phase_problems(runs[0], phase)]:
        raise ConfigurationError(problems)
    sets = sets_of(runs[0], phase)
    measured = {str(run.folder): curve_of(run, phase, sets) for run in runs}
    no_curve = [folder for folder, curve in measured.items() if not curve]
    chosen = level is not None
    if no_curve:
        if level is not None:
            raise ConfigurationError([_no_level(level, no_curve)])
        curves: Mapping[str, Curve] = {str(run.folder): end_points(run, phase, sets) for run in runs}
    else:
        curves = measured
        if level is None:
            level = common_level(list(curves.values()))
        elif (most := max(map(highest, curves.values()))) < level - TOLERANCE:
            raise ConfigurationError([f"--at {level:g}: no run reaches it; give {most:.4g} or less"])
    compared = [_group(group, phase, sets, curves, level) for group in groups]
    for group in compared[1:]:
        group.difference = {part: _difference(group, compared[0], part) for part in sets.parts}
    hardware = {run.devices for run in runs}
    return Comparison(phase, sets, level, chosen, compared, no_curve, list(left_out), len(hardware) > 1)


def learned_otherwise(group: ComparedGroup, reference: ComparedGroup) -> dict[str, tuple[float, float]]:
    """Returns (learning of the group, of the reference) for each earlier phase in which the two differ.

    Less learning in an earlier phase may explain less forgetting, even at matched learning in the compared phase.
    """
    return {
        phase: (own.mean, other.mean)
        for phase, own in group.learned_before.items()
        if own is not None
        and (other := reference.learned_before[phase]) is not None
        and abs(own.mean - other.mean) > SAME_LEARNING
    }


def learned_alike(group: ComparedGroup, reference: ComparedGroup) -> bool:
    """Returns whether both groups have learned the phase equally, to within `SAME_LEARNING`."""
    assert group.learning is not None and reference.learning is not None  # the end points always exist
    return abs(group.learning.mean - reference.learning.mean) <= SAME_LEARNING


def _group(group: Group, phase: str, sets: Sets, curves: Mapping[str, Curve], level: float | None) -> ComparedGroup:
    runs = [_run(run, phase, curves[str(run.folder)], level) for run in group.runs]
    points = [run.compared for run in runs if run.compared is not None]
    return ComparedGroup(
        label=group.label,
        settings={short(key): value for key, value in group.settings.items()},
        runs=runs,
        measures={name: _mean([run.measures[name] for run in runs]) for name in MEASURES},
        learned_before={name: _mean([run.learned_before[name] for run in runs]) for name in runs[0].learned_before},
        learning=estimate([point.learning for point in points]),
        steps=estimate([point.step for point in points]),
        kept={part: estimate([point.kept[part] for point in points]) for part in sets.parts},
    )


def _run(run: RunRecord, phase: str, curve: Curve, level: float | None) -> ComparedRun:
    return ComparedRun(
        folder=str(run.folder),
        seeds=run.seeds,
        reused=run.reused,
        measures={
            **{name: run.summary.get(name) for name in FIGURES},
            "tokens": run.tokens,
            "training_s": run.training_s,
            "peak_memory_gb": run.peak_memory_gb,
        },
        learned_before=learned_before(run, phase),
        curve=list(curve),
        highest_learning=highest(curve),
        compared=curve[-1] if level is None else at_level(curve, level),
    )


def _difference(group: ComparedGroup, reference: ComparedGroup, part: str) -> Estimate | None:
    own, other = (
        {run.seeds: run.compared.kept[part] for run in one.runs if run.compared is not None}
        for one in (group, reference)
    )
    return paired_difference(own, other)


def _mean(values: Sequence[float | None]) -> Estimate | None:
    return estimate([value for value in values if value is not None])


def _no_level(level: float, folders: list[str]) -> str:
    return (
        f"--at {level:g}: there is no curve to find it on in {', '.join(folders)}; run with evaluation.every_steps=N, "
        "or leave --at out"
    )
