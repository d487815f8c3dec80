"""Facts derived from a configuration: which phases run, from which model, with which settings. Pure functions."""

from collections.abc import Iterator
from dataclasses import fields

from osftx.config.schema import ExperimentConfig, PhaseConfig, TrainingConfig

BASE_STATE = "base"
"""Name of the model before the first phase, in results and in `learned_in`."""


def ordered_phases(config: ExperimentConfig) -> dict[str, PhaseConfig]:
    """Returns all phases by name, in the order of the run."""
    names = config.phase_order or list(config.phases)
    return {name: config.phases[name] for name in names}


def phases_to_run(config: ExperimentConfig) -> Iterator[tuple[int, str, PhaseConfig]]:
    """Yields (index, name, phase) of each phase that runs: those from the phase with `init_from` on, or else all."""
    phases = ordered_phases(config)
    first = next((place for place, phase in enumerate(phases.values()) if phase.init_from), 0)
    for index, (name, phase) in enumerate(phases.items()):
        if index >= first:
            yield index, name, phase


def start_model(config: ExperimentConfig) -> tuple[str, str | None]:
    """Returns the path and the revision of the model that the first phase to run starts from."""
    _, _, phase = next(phases_to_run(config))
    if phase.init_from is not None:
        return phase.init_from, None
    return config.model.path, config.model.revision


def training_of(config: ExperimentConfig, name: str) -> TrainingConfig:
    """Returns the training settings of a phase, with its overrides applied.

    `save_dtype` is the precision in which the phase saves: `hand_on_dtype` if another phase follows it.
    """
    phase = config.phases[name]
    training = TrainingConfig(**{field.name: getattr(phase, field.name) for field in fields(TrainingConfig)})
    if name != list(ordered_phases(config))[-1]:
        training.save_dtype = training.hand_on_dtype
    return training


def evaluation_budget(config: ExperimentConfig) -> tuple[int, int]:
    """Returns (longest sample, micro-batch), in tokens, of the evaluation. They hold for every state of a run."""
    return config.training.max_seq_len, config.training.max_tokens_per_gpu


def taught_in(config: ExperimentConfig, set_name: str) -> str:
    """Returns the phase that teaches what an evaluation set asks, or `base` if the start model knows it."""
    explicit = config.evaluation.sets[set_name].learned_in
    return explicit or (set_name if set_name in config.phases else BASE_STATE)


def sets_to_keep(config: ExperimentConfig, phase: str | None) -> list[str]:
    """Returns the evaluation sets that ask what was taught before `phase`, or all sets for None, the end of the run.

    This includes what the base knows and what every earlier phase teaches, even one that this run skips.
    """
    phases = list(ordered_phases(config))
    before = {BASE_STATE, *(phases if phase is None else phases[: phases.index(phase)])}
    return [name for name in config.evaluation.sets if taught_in(config, name) in before]
