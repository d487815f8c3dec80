"""The plan of a run: what each phase does, from what, with how much. Pure data, made before anything is started."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from osftx.config.phases import BASE_STATE, ordered_phases, phases_to_run, start_model
from osftx.config.schedule import advice, unfreeze_ratios
from osftx.config.schema import ExperimentConfig, Method, SubspaceKind
from osftx.config.steps import total_steps
from osftx.data.samples import DataSummary
from osftx.methods.covariance.index import PRESERVED
from osftx.methods.osft.ranks import update_shapes
from osftx.models.files import ModelFiles
from osftx.models.targets import Target, kinds, left_out
from osftx.planning.estimate.disk import Disk
from osftx.planning.estimate.duration import Duration
from osftx.planning.estimate.memory import Memory


@dataclass
class PlannedPhase:
    """One line of the plan."""

    index: int
    name: str
    method: str
    unfreeze_rank_ratio: float | None
    learning_rate: float
    samples: int
    """With those that are replayed."""
    replayed: dict[str, int]
    """Samples of earlier data among them, by source."""
    dropped: int
    """Samples longer than max_seq_len."""
    tokens: int
    """Tokens of one epoch."""
    steps: int
    """Optimizer steps."""
    starts_from: str
    trainable_parameters: int
    frozen_parameters: int
    keeps: str | None
    """What decides which directions are free, where that is not the weights: the sources of the kept inputs."""
    validated: int = 0
    """Samples on which the phase validates; those that are held out of its own are not in `samples`."""
    memory: Memory | None = None
    """Of each rank; filled in, like `disk`, by `fits.estimate`."""
    disk: Disk | None = None
    duration: Duration | None = None
    """With `plan.calibrate`: filled in by `calibration.calibrate`."""


@dataclass
class Plan:
    name: str
    phases: list[PlannedPhase]
    """The phases that run; those before an `init_from` are left out."""
    warnings: list[str]
    protected: str = ""
    """Kinds of weights that OSFT protects, and how many there are of each."""
    left_out: str = ""
    """The same of the other matrices in the decoder blocks, such as experts: frozen unless `osft.train_others`."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def kept_sources(config: ExperimentConfig, recorded: Sequence[str]) -> dict[str, list[str]]:
    """By phase whose free directions activations choose: the sources of the inputs that it keeps.

    `recorded` are those of the record beside the start model. A phase keeps the inputs of all before it, in so far as
    they have left a record; an `sft` phase leaves none, and what `preserve.data` shows is measured anew after it.
    """
    if config.osft.subspace is not SubspaceKind.activations:
        return {}
    sources: dict[str, list[str]] = {}
    known = list(recorded)
    for _, name, phase in phases_to_run(config):
        if phase.method is Method.osft:
            sources[name] = known or [PRESERVED]
            known = [*sources[name], name]
        else:
            known = []
    return sources


def make_plan(
    config: ExperimentConfig,
    model: ModelFiles,
    targets: list[Target],
    data: Mapping[str, DataSummary],
    recorded: Sequence[str] = (),
    replayed: Mapping[str, dict[str, int]] | None = None,
    validated: Mapping[str, int] | None = None,
) -> Plan:
    """The plan from what was found: the model's tensors, the targets (none for sft alone), each phase's data.

    `recorded`: see `kept_sources`. `replayed`: by phase, samples of each source, contained in `data`. `validated`: by
    phase, samples that it validates on, not contained in it.
    """
    ratios = unfreeze_ratios(config.schedule, ordered_phases(config))
    kept = kept_sources(config, recorded)
    planned = []
    starts_from, _ = start_model(config)
    for index, name, phase in phases_to_run(config):
        summary, ratio = data[name], ratios[name]
        if phase.method is Method.sft:
            trainable, frozen = model.parameters, 0
        else:
            assert ratio is not None
            updates = (shape for target in targets for shape in update_shapes(target, ratio, config.osft.subspace))
            trainable = sum(shape.trainable_numbers for shape in updates)
            # At ratio 1 the targets themselves are trained, otherwise an update beside frozen weights.
            frozen = model.parameters - (trainable if ratio == 1.0 else 0)
            if config.osft.train_others:
                others = model.parameters - sum(rows * columns for target in targets for rows, columns in target.blocks)
                trainable, frozen = trainable + others, frozen - others
        nothing = trainable == 0
        planned.append(
            PlannedPhase(
                index=index,
                name=name,
                method=phase.method.value,
                unfreeze_rank_ratio=ratio,
                learning_rate=phase.learning_rate,
                samples=summary.samples,
                replayed=(replayed or {}).get(name, {}),
                dropped=summary.dropped,
                tokens=summary.tokens,
                steps=0 if nothing else total_steps(phase, summary.samples),
                starts_from=starts_from,
                trainable_parameters=trainable,
                frozen_parameters=frozen,
                keeps=" + ".join(kept[name]) if name in kept else None,
                validated=(validated or {}).get(name, 0),
            )
        )
        starts_from = name
    # The guidance is the paper's, for subspaces by weights.
    by_weights = config.osft.subspace is SubspaceKind.weights
    beside = kinds(left_out(model.shapes, targets)) if targets else ""
    warnings = advice(config.schedule, ordered_phases(config)) if by_weights else []
    first = planned[0]
    if first.index > 0 and first.keeps == PRESERVED:
        warnings.append(
            f"phase {first.name}: no record of kept inputs lies beside {first.starts_from}; preserve.data must show "
            "what the skipped phases taught, too"
        )
    for before, entry in pairwise(planned):
        if entry.keeps is not None and before.method == Method.sft.value:
            warnings.append(
                f"phase {entry.name}: follows {before.name}, an sft phase, which leaves no record of its inputs; "
                "preserve.data must show what it taught, too"
            )
    for entry in planned:
        warmup = config.phases[entry.name].warmup_steps
        if 0 < entry.steps <= warmup:
            warnings.append(
                f"phase {entry.name}: warmup_steps={warmup}, but the phase has {entry.steps} steps and never reaches "
                f"its learning rate; lower phases.{entry.name}.warmup_steps"
            )
    for name, evaluation_set in config.evaluation.sets.items():
        if evaluation_set.learned_in is None and name not in (BASE_STATE, *config.phases):
            warnings.append(
                f"evaluation set {name}: no phase has its name, so it counts as what the base model knows; set "
                f"evaluation.sets.{name}.learned_in=base, or leave it out with ~evaluation.sets.{name}"
            )
    return Plan(config.name, planned, warnings, kinds(target.name for target in targets), beside)
