"""Defines OSFT as a method, for the launching process. Imports no torch.

Source: Nayak et al., "Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual Learning"
(arXiv 2504.07097).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osftx.config.phase_spec import PhaseSpec, PreserveSpec
from osftx.config.phases import ordered_phases
from osftx.config.run_layout import BASES, INPUT_COVARIANCE
from osftx.config.schedule import advice
from osftx.config.schema import DataConfig, ExperimentConfig, PhaseConfig, RankAllocation
from osftx.data.samples import Prepared
from osftx.methods.base import Method, OpenedPhase, PhaseOutline
from osftx.methods.covariance.index import PRESERVED
from osftx.methods.osft import preserve, settings, sizes
from osftx.methods.osft.rank_allocation import check_allocation
from osftx.methods.osft.rules import rule_of
from osftx.methods.registry import method_named
from osftx.methods.sizes import MethodSizes, Workload
from osftx.models.files import ModelFiles
from osftx.models.targets import Target, find_targets

if TYPE_CHECKING:
    import torch
    from torch import nn

    from osftx.training.batches import Samples


class Osft(Method):
    """Trains each target in trainable directions of its weight; everything else is frozen."""

    name = "osft"
    takes_ratio = True
    groups = ("osft", "preserve")
    folders = (INPUT_COVARIANCE, BASES)

    def problems(self, config: ExperimentConfig) -> Iterator[str]:
        return settings.problems(config)

    def phase_problems(self, path: str, phase: PhaseConfig) -> Iterator[str]:
        return settings.phase_problems(path, phase)

    def unread(self, config: ExperimentConfig) -> Collection[str]:
        return settings.unread(config)

    def targets(self, config: ExperimentConfig, model: ModelFiles, phases: Sequence[PhaseOutline]) -> list[Target]:
        targets = find_targets(model.config, model.shapes, config.osft.target_patterns)
        if config.osft.rank_allocation is not RankAllocation.uniform:
            ratios = {phase.name: phase.ratio for phase in phases if phase.ratio is not None}
            check_allocation([target.name for target in targets], ratios, config.osft.minimum_retention)
        return targets

    def found_beside(self, config: ExperimentConfig, model: str, targets: Sequence[Target]) -> list[str]:
        return preserve.recorded_sources(model, targets) if rule_of(config.osft).reads_inputs else []

    def records(
        self, config: ExperimentConfig, name: str, received: Sequence[str]
    ) -> tuple[list[str] | None, list[str]]:
        """Returns the sources that the phase must keep, and those that it leaves.

        A phase must keep the inputs of all phases before it that have left a record, and adds its own. A method that
        leaves no record passes nothing on: `preserve.data` is measured again after it.
        """
        if not rule_of(config.osft).reads_inputs:
            return None, []
        keeps = list(received) or [PRESERVED]
        return keeps, [*keeps, name]

    def extra_data(self, config: ExperimentConfig, phases: Sequence[PhaseOutline]) -> dict[str, DataConfig]:
        if not any(phase.keeps == [PRESERVED] for phase in phases):
            return {}
        preserve.check_given(config)
        return {PRESERVED: config.preserve.data}

    def check_extra_data(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        own: Mapping[str, Prepared],
        targets: Sequence[Target],
    ) -> None:
        preserve.check_new(extra[PRESERVED], own)
        preserve.check_amount(config, extra[PRESERVED].summary, targets)

    def warnings(self, config: ExperimentConfig, phases: Sequence[PhaseOutline], starts_from: str) -> Iterator[str]:
        if not rule_of(config.osft).reads_inputs:  # the advice is the paper's, for weight-based subspaces
            every = ordered_phases(config).items()
            own = {name: phase.unfreeze_rank_ratio for name, phase in every if method_named(phase.method).takes_ratio}
            yield from advice(config.schedule, own)
        first = phases[0]
        if first.index > 0 and first.keeps == [PRESERVED]:
            yield (
                f"phase {first.name}: no record of input covariance lies beside {starts_from}; preserve.data must show "
                "what the skipped phases taught, too"
            )
        for before, phase in pairwise(phases):
            if phase.keeps is not None and not before.leaves:
                yield (
                    f"phase {phase.name}: follows {before.name}, an {before.method.name} phase, which leaves no record "
                    "of its inputs; preserve.data must show what it taught, too"
                )

    def data_warnings(
        self,
        config: ExperimentConfig,
        extra: Mapping[str, Prepared],
        targets: Sequence[Target],
        evaluation: Mapping[str, Prepared],
        training: Mapping[str, Prepared],
    ) -> Iterator[str]:
        return preserve.advice(config, extra[PRESERVED], targets, evaluation, training)

    def sizes(self, work: Workload) -> MethodSizes:
        return sizes.sizes(work)

    def spec_fields(
        self, config: ExperimentConfig, phase: PhaseOutline, source: Path, extra: Mapping[str, Path]
    ) -> dict[str, Any]:
        if phase.keeps is None:
            return {}
        if phase.keeps == [PRESERVED]:
            where = {"record": None, "samples": str(extra[PRESERVED])}
        else:
            where = {"record": str(source.parent / INPUT_COVARIANCE), "samples": None}
        return {"preserve": PreserveSpec(**where, max_tokens=config.preserve.max_tokens)}

    def fingerprint(self, spec: PhaseSpec) -> dict[str, Any]:
        content: dict[str, Any] = {
            "ratio": spec.unfreeze_rank_ratio,
            "subspace": spec.osft.subspace,
            "rank_allocation": spec.osft.rank_allocation.value,
            "train_others": spec.osft.train_others,
            "target_patterns": spec.osft.target_patterns,
            "save_bases": spec.osft.save_bases,
        }
        if spec.osft.rank_allocation is RankAllocation.layer_importance:
            content["minimum_retention"] = spec.osft.minimum_retention
        if spec.preserve is not None:  # the record of what must be kept is part of the parent
            content["preserved"] = Path(spec.preserve.samples).name if spec.preserve.samples is not None else None
            content["preserve_max_tokens"] = spec.preserve.max_tokens
        return content

    def open(self, model: "nn.Module", spec: PhaseSpec, samples: "Samples", device: "torch.device") -> OpenedPhase:
        from osftx.methods.osft.opened import open_osft

        return open_osft(model, spec, samples, device)
