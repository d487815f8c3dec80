"""The record of a run, as read from its folder, with which reports, comparisons and studies work. Pure."""

from dataclasses import dataclass, field
from errno import ENOENT
from itertools import accumulate
from os import strerror
from pathlib import Path
from statistics import median
from typing import Any

from osftx.config.phases import sets_to_keep, taught_in
from osftx.config.run_layout import CONFIG
from osftx.config.schema import ExperimentConfig
from osftx.data.mixing import DRAWN
from osftx.results.phase_summary import with_subspace

Json = dict[str, Any]

NO_RETENTION: Json = {"sets": [], "states": [], "metrics": {}}
NO_BENCHMARKS: Json = {"tasks": [], "metrics": {}, "values": []}
NO_COMPARISON: Json = {"sets": [], "kl_to_base": [], "token_agreement": [], "unchanged_answers": []}
NO_GENERATED: Json = {"sets": [], "scores": {}, "values": [], "cut_off": []}


@dataclass
class PhaseRecord:
    """A phase of the plan and its results."""

    name: str
    plan: Json
    """Entry of the phase in `plan.json`."""
    result: Json
    """Entry of the phase in `results.json`; empty if the run ended before the phase was done."""
    steps: list[Json]
    """Content of `metrics.jsonl`, one entry per optimizer step; empty if nothing was trained."""
    record: Json | None
    """Content of the phase's own `result.json`; None if the phase was not done."""
    spec: Json | None
    """Content of the phase's own `phase.yaml`; None if the phase was not started."""
    seed: int | None
    """Seed of the phase; None if the run folder has no configuration of the phase."""

    @property
    def label(self) -> str:
        """Number of the phase in the plan, from 1, and its name."""
        return f"{self.plan['index'] + 1} {self.name}"

    @property
    def targets(self) -> list[Json]:
        """Measures of each weight that was trained in a subspace; empty for methods without subspaces."""
        return with_subspace(self.record.get("targets", [])) if self.record is not None else []

    @property
    def curve(self) -> list[Json]:
        """`step` and `evaluation` of each measurement during the phase; empty if only its end was measured."""
        return self.result.get("curve") or []

    @property
    def last_step(self) -> int:
        """Last optimizer step that was trained or measured; 0 if there was none."""
        return max([0, *(entry["step"] for entry in (*self.steps, *self.curve))])

    @property
    def tokens_per_second(self) -> float | None:
        """Median over the steps of the tokens per second of all ranks together; None if nothing was trained."""
        return median(step["tokens_per_second"] for step in self.steps) if self.steps else None

    @property
    def fill(self) -> Json:
        """How well the packing fills the ranks (`data.packing.Fill`); empty if it was not recorded."""
        return self.result.get("fill") or {}

    @property
    def peak_memory_gb(self) -> float | None:
        """Largest memory in GB that rank 0 held at any step; None if nothing was recorded."""
        measured = [step["peak_memory_usage_GB"] for step in self.steps if step.get("peak_memory_usage_GB")]
        return max(measured, default=None)

    @property
    def contents(self) -> dict[str, str]:
        """Fingerprint of each data set of the phase, by the configuration key of its path.

        `phase.yaml` names folders of tokenised samples, which are named by a hash of file, tokenizer and longest
        sample. A suffix after the hash says which samples were drawn, for replay or by weights. It is left out, so that
        runs with different seeds belong to one group.
        """
        if self.spec is None:
            return {}
        named = {f"phases.{self.spec['name']}.data.path": self.spec["data"]}
        if (self.spec.get("preserve") or {}).get("samples"):
            named["preserve.data.path"] = self.spec["preserve"]["samples"]
        named |= {f"evaluation.sets.{name}.path": samples for name, samples in self.spec["evaluation_sets"].items()}
        return {key: Path(samples).name.partition(DRAWN)[0] for key, samples in named.items()}


@dataclass
class RunRecord:
    """The content of a run folder, as far as the run got."""

    folder: Path
    plan: Json
    """Content of `plan.json`."""
    results: Json
    """Content of `results.json`; empty until the first phase is done."""
    phases: list[PhaseRecord]
    """All phases of the plan, in order."""
    config_if_any: ExperimentConfig | None
    """Configuration of the run; None if the run folder has none."""
    samples: list[Json] = field(default_factory=list)
    """Content of `samples.jsonl`, one entry per sample of the sets with a score; empty if no answers were generated."""

    @property
    def config(self) -> ExperimentConfig:
        """Configuration of the run. Raises FileNotFoundError if the run folder has none."""
        if self.config_if_any is None:
            raise FileNotFoundError(ENOENT, strerror(ENOENT), str((self.folder / CONFIG).absolute()))
        return self.config_if_any

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.plan["name"]

    @property
    def warnings(self) -> list[str]:
        """Warnings of the plan."""
        return self.plan["warnings"]

    @property
    def phase_names(self) -> list[str]:
        """Names of the planned phases, in order."""
        return [phase.name for phase in self.phases]

    @property
    def retention(self) -> Json:
        """`sets`, `states` and `metrics` as in `results.json`; `sets` is empty if nothing was measured."""
        return self.results.get("retention") or NO_RETENTION

    @property
    def exact_match(self) -> list[dict[str, float]]:
        """Exact match by evaluation set, for the state before the first phase and then for that after each phase."""
        rows = self.retention["metrics"].get("exact_match", [])
        return [dict(zip(self.retention["sets"], row, strict=True)) for row in rows]

    @property
    def benchmarks(self) -> Json:
        """`tasks`, `metrics` and `values` as in `results.json`; `tasks` is empty if no benchmarks were run."""
        return self.retention.get("benchmarks") or NO_BENCHMARKS

    @property
    def generated(self) -> Json:
        """`sets`, `scores`, `values` and `cut_off` as in `results.json`; `sets` is empty if no set has a score."""
        return self.retention.get("generated") or NO_GENERATED

    @property
    def against_base(self) -> Json:
        """`sets`, `kl_to_base`, `token_agreement` and `unchanged_answers` as in `results.json`.

        `sets` is empty if no set is compared with the start model.
        """
        return self.retention.get("against_base") or NO_COMPARISON

    @property
    def summary(self) -> dict[str, float | None]:
        """Summary figures of `results.json`, by name; empty until the first phase is done."""
        return self.results.get("summary") or {}

    @property
    def command(self) -> str | None:
        """Command that repeats the run; None until the first phase is done."""
        return self.results.get("command")

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages, by name; empty until the first phase is done."""
        return self.results.get("versions", {})

    @property
    def taught_in(self) -> dict[str, str]:
        """Phase that teaches each evaluation set, or `base`; empty if the run folder has no configuration."""
        config = self.config_if_any
        return {name: taught_in(config, name) for name in config.evaluation.sets} if config is not None else {}

    def sets_taught_in(self, phase: str) -> list[str]:
        """Returns the evaluation sets that a phase teaches; an empty list if the run folder has no configuration."""
        return [name for name, teacher in self.taught_in.items() if teacher == phase]

    def sets_to_keep(self, phase: str) -> list[str]:
        """Returns the evaluation sets that were taught before a phase (`config.phases.sets_to_keep`).

        The list is empty if the run folder has no configuration.
        """
        return sets_to_keep(self.config_if_any, phase) if self.config_if_any is not None else []

    @property
    def steps_before(self) -> list[int]:
        """Number of optimizer steps of the run before each of its phases."""
        return list(accumulate((phase.last_step for phase in self.phases[:-1]), initial=0))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each phase, or a single seed if all are equal. Raises FileNotFoundError without a configuration."""
        seeds = tuple(self.config.phases[name].seed for name in self.phase_names)
        return seeds[:1] if len(set(seeds)) == 1 else seeds

    @property
    def ratios(self) -> dict[str, float | None]:
        """Unfreeze ratio with which each phase was trained, whatever decided it; None for `sft`."""
        return {phase.name: phase.plan["unfreeze_rank_ratio"] for phase in self.phases}

    @property
    def tokens(self) -> int:
        """Number of tokens that all phases trained on."""
        return sum(phase.result["tokens"] for phase in self.phases if phase.result)

    @property
    def reused(self) -> bool:
        """Whether any phase was taken from the store."""
        return any(phase.result["reused"] for phase in self.phases if phase.result)

    @property
    def training_s(self) -> float:
        """Seconds of the steps of all phases, without measurements; a reused phase counts those of its training."""
        return sum(step["time_per_batch"] for phase in self.phases for step in phase.steps)

    @property
    def peak_memory_gb(self) -> float | None:
        """Largest memory in GB that rank 0 held at any step; None if nothing was recorded."""
        measured = [phase.peak_memory_gb for phase in self.phases if phase.peak_memory_gb is not None]
        return max(measured, default=None)

    @property
    def devices(self) -> frozenset[tuple[str, int]]:
        """(name, number of ranks) of the devices on which phases were trained."""
        records = [phase.record for phase in self.phases if phase.record is not None]
        return frozenset((record["device"], record["world_size"]) for record in records)

    @property
    def contents(self) -> dict[str, str]:
        """Fingerprint of each data set, by the key of its path; a file may have been moved or changed in place."""
        return {key: content for phase in self.phases for key, content in phase.contents.items()}
