"""Run folders as `osftx` leaves them, with curves that a test chooses."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

SETS = ("base", "knowledge", "skills")
Curve = Sequence[tuple[int, float, float, float]]
"""(step, then exact match on base, knowledge and skills)"""
PLAIN: Curve = ((0, 0.6, 0.9, 0.0), (10, 0.5, 0.7, 0.5), (20, 0.4, 0.3, 1.0))
CAREFUL: Curve = ((0, 1.0, 0.9, 0.0), (10, 1.0, 0.9, 0.4), (20, 0.9, 0.9, 0.9))


def metrics(exact_match: float) -> dict[str, float]:
    return {
        "loss": 1.5 - exact_match,
        "token_accuracy": exact_match,
        "exact_match": exact_match,
        "samples": 40,
        "counted_tokens": 400,
    }


def write_run(
    folder: Path,
    curve: Curve = PLAIN,
    seed: int = 42,
    with_curve: bool = True,
    settings: Mapping[str, Any] | None = None,
    sets: Sequence[str] = SETS,
    start: str = "tiny",
    contents: str = "0123",
    device: str = "cpu",
    done: int = 2,
    reused: bool = False,
) -> Path:
    """A run of the phases knowledge and skills; `curve` is that of skills, `settings` are keys of config.yaml."""
    config = OmegaConf.create(
        {
            "name": "study",
            "model": {"path": "models/tiny"},
            "training": {"seed": seed},
            "phases": {name: {"data": {"path": f"{name}.jsonl"}} for name in SETS[1:]},
            "evaluation": {"sets": {name: {"path": f"{name}_eval.jsonl"} for name in sets}},
        }
    )
    for key, value in (settings or {}).items():
        OmegaConf.update(config, key, value)
    methods = {name: config.phases[name].get("method", "osft") for name in SETS[1:]}
    ratios = {name: None if methods[name] == "sft" else ratio for name, ratio in (("knowledge", 0.3), ("skills", 0.2))}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    plan = [{"index": i, "name": name, "unfreeze_rank_ratio": ratio} for i, (name, ratio) in enumerate(ratios.items())]
    (folder / "plan.json").write_text(json.dumps({"name": config.name, "phases": plan, "warnings": []}))
    for index, name in enumerate(ratios):
        phase = folder / "phases" / f"{index + 1:02d}_{name}"
        phase.mkdir(parents=True)
        steps = [
            {"step": step, "time_per_batch": 5.0 * (index + 1), "peak_memory_usage_GB": 1.0 + index + step / 10}
            for step in (1, 2)
        ]
        (phase / "result.json").write_text(json.dumps({"device": device, "world_size": 2}))
        (phase / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        spec = {
            "name": name,
            "data": f"elsewhere/data/{name}{contents}",
            "evaluation_sets": {one: f"elsewhere/data/{one}{contents}" for one in sets},
        }
        (phase / "phase.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(spec)))
    exact = [[1.0, 0.0, 0.0], list(curve[0][1:]), list(curve[-1][1:])]
    loss = [[1.5 - value for value in row[: len(sets)]] for row in exact]
    states = [
        {"step": step, "evaluation": dict(zip(SETS, map(metrics, values), strict=True))} for step, *values in curve
    ]
    phases = [
        {
            "name": name,
            "method": methods[name],
            "unfreeze_rank_ratio": ratios[name],
            "reused": reused and name == "knowledge",
            "steps": curve[-1][0],
            "tokens": 1000 * (place + 1) + seed,
            "curve": states if with_curve and name == "skills" else [],
        }
        for place, name in enumerate(ratios)
    ]
    results = {
        "experiment": config.name,
        "start": start,
        "phases": phases[:done],
        "retention": {
            "sets": list(sets),
            "states": ["base", *ratios][: done + 1],
            "metrics": {"exact_match": [row[: len(sets)] for row in exact[: done + 1]], "loss": loss[: done + 1]},
        },
        "summary": {
            "average_accuracy": sum(curve[-1][1:]) / 3,
            "learning_accuracy": 0.9,
            "forgetting": 0.25,
            "backward_transfer": None,
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def shifted(curve: Curve, by: float) -> Curve:
    """The same learning; more or less kept of the base."""
    return [(step, base + by, knowledge, skills) for step, base, knowledge, skills in curve]
