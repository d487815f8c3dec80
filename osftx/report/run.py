"""What a report is made from: the files of a run folder, in the shape that the figures and the page want."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    targets: list[Json]
    """What each target weight kept, from the phase's `result.json`; empty for `sft`."""

    @property
    def label(self) -> str:
        return f"{self.plan['index'] + 1} {self.name}"


@dataclass
class Run:
    name: str
    phases: list[PhaseRecord]
    warnings: list[str]
    retention: Json
    """`sets`, `states` and `metrics` as in `results.json`; `sets` is empty when nothing was measured."""
    summary: dict[str, float | None]
    command: str | None
    versions: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read a run folder: `plan.json` must be there, the rest as far as the run got."""
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        results = _read_json(folder / "results.json") or {}
        done = {phase["name"]: phase for phase in results.get("phases", [])}
        phases = []
        for planned in plan["phases"]:
            name = planned["name"]
            phase_folder = folder / "phases" / f"{planned['index'] + 1:02d}_{name}"
            phases.append(
                PhaseRecord(
                    name=name,
                    plan=planned,
                    result=done.get(name),
                    steps=_read_lines(phase_folder / "metrics.jsonl"),
                    targets=(_read_json(phase_folder / "result.json") or {}).get("targets", []),
                )
            )
        return cls(
            name=plan["name"],
            phases=phases,
            warnings=plan["warnings"],
            retention=results.get("retention") or {"sets": [], "states": [], "metrics": {}},
            summary=results.get("summary") or {},
            command=results.get("command"),
            versions=results.get("versions", {}),
        )


def _read_json(path: Path) -> Json | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _read_lines(path: Path) -> list[Json]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
