"""The plan of a run: what each phase does, where it starts, and what it needs.

The plan is made before anything is started and never changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from osftx.config.phase_spec import PhaseSpec
from osftx.config.phases import BASE_STATE, start_model
from osftx.config.schema import ExperimentConfig
from osftx.config.steps import total_steps
from osftx.methods.base import Method, PhaseOutline
from osftx.models.files import ModelFiles
from osftx.models.targets import Target, kinds, left_out
from osftx.planning.estimate import disk, memory
from osftx.planning.estimate.disk import Disk
from osftx.planning.estimate.duration import Duration
from osftx.planning.estimate.memory import Memory
from osftx.planning.outline import by_method
from osftx.planning.phase_specs import RunFiles, make_spec
from osftx.planning.resources import too_large, workload
from osftx.planning.run_data.phase_data import PhaseData


@dataclass(frozen=True)
class PlannedPhase:
    """One phase of the plan: the figures to show, and everything that is needed to run it."""

    index: int
    name: str
    method: str
    unfreeze_rank_ratio: float | None
    learning_rate: float
    samples: int
    """Number of training samples, including replayed ones."""
    replayed: dict[str, int]
    """Number of replayed samples among `samples`, by source."""
    dropped: int
    """Number of samples dropped because they are longer than max_seq_len."""
    tokens: int
    """Number of tokens of one epoch."""
    steps: int
    """Number of optimizer steps."""
    starts_from: str
    trainable_parameters: int
    frozen_parameters: int
    keeps: str | None
    """Sources of the records that the phase keeps to; None if it reads none."""
    validated: int = 0
    """Number of validation samples. Those that are held out of the phase's own data are not in `samples`."""
    memory: Memory | None = None
    """Estimated memory of a rank."""
    disk: Disk | None = None
    duration: Duration | None = None
    """Estimated duration; None without `plan.calibrate`."""
    outline: PhaseOutline | None = field(default=None, compare=False, repr=False)
    data: PhaseData | None = field(default=None, compare=False, repr=False)
    spec: PhaseSpec | None = field(default=None, compare=False, repr=False)
    """Spec for the ranks; None in a dry run, which has no run folder."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures of the phase as in plan.json."""
        shown = [one.name for one in fields(self) if one.name not in ("outline", "data", "spec")]
        values = {name: getattr(self, name) for name in shown}
        return {
            name: asdict(value) if isinstance(value, Memory | Disk | Duration) else value
            for name, value in values.items()
        }

    def ready(self) -> PhaseSpec:
        """Writes what the ranks read into the phase's folder, and returns the spec, which must not be None."""
        assert self.spec is not None and self.data is not None
        self.spec.save()
        if self.data.held_out is not None:
            self.data.held_out.save(self.spec)
        return self.spec


@dataclass(frozen=True)
class Plan:
    name: str
    phases: list[PlannedPhase]
    """Phases that run; those before an `init_from` are left out."""
    warnings: list[str]
    protected: str = ""
    """Kinds of target weights, and how many there are of each kind."""
    left_out: str = ""
    """Kinds and counts of the other matrices in decoder blocks, such as experts: frozen unless `osft.train_others`."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of plan.json."""
        return {
            "name": self.name,
            "phases": [phase.to_dict() for phase in self.phases],
            "warnings": self.warnings,
            "protected": self.protected,
            "left_out": self.left_out,
        }

    def with_warnings(self, more: Sequence[str]) -> "Plan":
        """Returns the plan with further warnings after its own."""
        return replace(self, warnings=[*self.warnings, *more])

    def with_durations(self, durations: Sequence[Duration]) -> "Plan":
        """Returns the plan with the estimated duration of each of its phases."""
        timed = [replace(phase, duration=one) for phase, one in zip(self.phases, durations, strict=True)]
        return replace(self, phases=timed)


def make_plan(
    config: ExperimentConfig,
    model: ModelFiles,
    phases: Sequence[PhaseOutline],
    targets: Mapping[Method, list[Target]],
    data: Mapping[str, PhaseData],
    files: RunFiles | None = None,
) -> Plan:
    """Returns the plan of the `phases`, which must have their records (`outline.with_records`).

    `targets` holds the targets of each method in the model, `data` the data of each phase by name, and `files` the
    files of a run that is to be started (None: a dry run).
    """
    planned: list[PlannedPhase] = []
    starts_from, _ = start_model(config)
    before: PhaseOutline | None = None
    too_large_for_gpu: list[str] = []
    for phase in phases:
        own, summary = data[phase.name], data[phase.name].summary
        work = workload(config, model, phase, targets[phase.method], before)
        steps = total_steps(phase.training, summary.samples) if work.sizes.trainable else 0
        saves = config.checkpointing if config.reuse else None
        entry = PlannedPhase(
            index=phase.index,
            name=phase.name,
            method=phase.config.method,
            unfreeze_rank_ratio=phase.ratio,
            learning_rate=phase.training.learning_rate,
            samples=summary.samples,
            replayed=own.replayed,
            dropped=summary.dropped,
            tokens=summary.tokens,
            steps=steps,
            starts_from=starts_from,
            trainable_parameters=work.sizes.trainable,
            frozen_parameters=work.sizes.frozen,
            keeps=" + ".join(phase.keeps) if phase.keeps is not None else None,
            validated=own.held_out.summary.samples if own.held_out is not None else 0,
            memory=memory.of_phase(work),
            disk=disk.of_phase(work, summary, steps, saves),
            outline=phase,
            data=own,
            spec=make_spec(config, phase, own, files, planned[-1].spec if planned else None) if files else None,
        )
        too_large_for_gpu += too_large(entry.name, work, config)
        planned.append(entry)
        starts_from, before = phase.name, phase
    treated = next((found for found in targets.values() if found), [])
    return Plan(
        config.name,
        planned,
        [*_warnings(config, phases, planned), *too_large_for_gpu],
        kinds(target.name for target in treated),
        kinds(left_out(model.shapes, treated)) if treated else "",
    )


def _warnings(
    config: ExperimentConfig, phases: Sequence[PhaseOutline], planned: Sequence[PlannedPhase]
) -> Iterator[str]:
    for method in by_method(phases):
        yield from method.warnings(config, phases, planned[0].starts_from)
    for entry in planned:
        warmup = config.phases[entry.name].warmup_steps
        if 0 < entry.steps <= warmup:
            yield (
                f"phase {entry.name}: warmup_steps={warmup}, but the phase has {entry.steps} steps and never reaches "
                f"its learning rate; lower phases.{entry.name}.warmup_steps"
            )
    for name, evaluation_set in config.evaluation.sets.items():
        if evaluation_set.learned_in is None and name not in (BASE_STATE, *config.phases):
            yield (
                f"evaluation set {name}: no phase has its name, so it counts as what the base model knows; set "
                f"evaluation.sets.{name}.learned_in=base, or leave it out with ~evaluation.sets.{name}"
            )
