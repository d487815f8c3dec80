"""What a report is made from: the files of a run folder, in the shape that the figures and the page want."""

import json
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig, OmegaConf

from osftx.config.load import typed
from osftx.config.phases import taught_in
from osftx.config.run_layout import CONFIG, METRICS, PHASE_RESULT, PLAN, RESULTS, phase_folder
from osftx.config.schema import ExperimentConfig

Json = dict[str, Any]


@dataclass
class PhaseRecord:
    """A phase of the plan, and what became of it."""

    name: str
    plan: Json
    """Its entry in `plan.json`."""
    result: Json | None
    """Its entry in `results.json`; None when the run ended before it was done."""
    steps: list[Json]
    """`metrics.jsonl`: one entry per optimizer step; empty when nothing was trained."""
    record: Json
    """The phase's own `result.json`; empty when it was not done."""
    seed: int | None
    """None when the run folder has no configuration."""

    @property
    def label(self) -> str:
        return f"{self.plan['index'] + 1} {self.name}"

    @property
    def targets(self) -> list[Json]:
        """What each target weight kept; empty for `sft`."""
        return self.record.get("targets", [])

    @property
    def curve(self) -> list[Json]:
        """`step` and `evaluation` of each measurement during the phase; empty when it was measured at its end alone."""
        return (self.result or {}).get("curve") or []

    @property
    def last_step(self) -> int:
        return max([0, *(entry["step"] for entry in (*self.steps, *self.curve))])

    @property
    def tokens_per_second(self) -> float | None:
        """Median of the steps."""
        return median(step["tokens_per_second"] for step in self.steps) if self.steps else None

    @property
    def fill(self) -> Json:
        """How well the packing fills the ranks (`data.packing.Fill`)."""
        return (self.result or {}).get("fill") or {}

    @property
    def peak_memory_gb(self) -> float | None:
        measured = [step["peak_memory_usage_GB"] for step in self.steps if step.get("peak_memory_usage_GB")]
        return max(measured, default=None)


@dataclass
class Run:
    name: str
    phases: list[PhaseRecord]
    warnings: list[str]
    retention: Json
    """`sets`, `states` and `metrics` as in `results.json`; `sets` is empty when nothing was measured."""
    benchmarks: Json
    """`tasks`, `metrics` and `values` as in `results.json`; `tasks` is empty when there were none."""
    taught_in: dict[str, str]
    """By evaluation set: the phase that teaches it, or `base`. Empty when the run folder has no configuration."""
    summary: dict[str, float | None]
    command: str | None
    versions: dict[str, str]

    @property
    def steps_before(self) -> list[int]:
        """Optimizer steps of the run before each of its phases."""
        return list(accumulate((phase.last_step for phase in self.phases[:-1]), initial=0))

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read a run folder: `plan.json` must be there, the rest as far as the run got."""
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        results = _read_json(folder / RESULTS) or {}
        config = _read_config(folder / CONFIG)
        done = {phase["name"]: phase for phase in results.get("phases", [])}
        phases = []
        for planned in plan["phases"]:
            name = planned["name"]
            own_folder = phase_folder(folder, planned["index"], name)
            phases.append(
                PhaseRecord(
                    name=name,
                    plan=planned,
                    result=done.get(name),
                    steps=_read_lines(own_folder / METRICS),
                    record=_read_json(own_folder / PHASE_RESULT) or {},
                    seed=config.phases[name].seed if config is not None else None,
                )
            )
        retention = results.get("retention") or {"sets": [], "states": [], "metrics": {}}
        return cls(
            name=plan["name"],
            phases=phases,
            warnings=plan["warnings"],
            retention=retention,
            benchmarks=retention.get("benchmarks") or {"tasks": [], "metrics": {}, "values": []},
            taught_in={name: taught_in(config, name) for name in config.evaluation.sets} if config is not None else {},
            summary=results.get("summary") or {},
            command=results.get("command"),
            versions=results.get("versions", {}),
        )


def _read_config(path: Path) -> ExperimentConfig | None:
    if not path.exists():
        return None
    config = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), OmegaConf.load(path))
    assert isinstance(config, DictConfig)
    return typed(config)


def _read_json(path: Path) -> Json | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _read_lines(path: Path) -> list[Json]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
