"""Lists the phases of a run from the configuration alone. The unfreeze ratios are resolved here, once."""

from collections.abc import Sequence
from dataclasses import replace

from osftx.config.phases import ordered_phases, phases_to_run, training_of
from osftx.config.schedule import unfreeze_ratios
from osftx.config.schema import ExperimentConfig
from osftx.methods.base import Method, PhaseOutline
from osftx.methods.registry import method_named


def outline(config: ExperimentConfig) -> list[PhaseOutline]:
    """Returns the phases that run, in order. The configuration must be valid."""
    methods = {name: method_named(phase.method) for name, phase in ordered_phases(config).items()}
    own = {name: config.phases[name].unfreeze_rank_ratio for name, method in methods.items() if method.takes_ratio}
    ratios = unfreeze_ratios(config.schedule, own)
    return [
        PhaseOutline(index, name, phase, training_of(config, name), methods[name], ratios.get(name))
        for index, name, phase in phases_to_run(config)
    ]


def with_records(config: ExperimentConfig, phases: Sequence[PhaseOutline], found: Sequence[str]) -> list[PhaseOutline]:
    """Returns the `phases` with the sources of the records that each phase keeps to and leaves.

    `found` are the sources of the records that lie beside the start model.
    """
    chained, received = [], list(found)
    for phase in phases:
        keeps, leaves = phase.method.records(config, phase.name, received)
        chained.append(replace(phase, keeps=keeps, leaves=leaves))
        received = leaves
    return chained


def by_method(phases: Sequence[PhaseOutline]) -> dict[Method, list[PhaseOutline]]:
    """Returns the phases of each method, in the order in which the methods first occur."""
    found: dict[Method, list[PhaseOutline]] = {}
    for phase in phases:
        found.setdefault(phase.method, []).append(phase)
    return found
