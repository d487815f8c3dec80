"""Folders of a run and of a sweep as osftx leaves them, in small: what the reports are made from."""

import json
from pathlib import Path
from typing import Any

HOSTILE = "<script>alert('$x$')</script>"
PHASES = ("knowledge", "skills")
SETS = ("base", *PHASES)
EXACT_MATCH = [[0.911, 0.0, 0.0], [0.902, 0.984, 0.0], [0.887, 0.953, 0.765]]
"""After the base and each phase (rows), on each of the sets."""
CONFIG = """\
name: study
model: {path: somewhere}
training: {seed: 42}
phases:
  knowledge: {data: {path: k.jsonl}}
  skills: {data: {path: s.jsonl}, seed: 43}
evaluation:
  sets:
    base: {path: b.jsonl}
    knowledge: {path: k_eval.jsonl}
    skills: {path: s_eval.jsonl}
"""


def planned(index: int, name: str, ratio: float | None) -> dict[str, Any]:
    return {
        "index": index,
        "name": name,
        "method": "sft" if ratio is None else "osft",
        "unfreeze_rank_ratio": ratio,
        "learning_rate": 5e-06,
        "samples": 1234,
        "dropped": 7,
        "tokens": 987654,
        "steps": 20,
        "starts_from": "meta-llama/Llama-3.1-8B-Instruct" if index == 0 else "knowledge",
        "trainable_parameters": 2_000_000_000,
        "frozen_parameters": 8_030_261_248,
    }


def finished(name: str, leak: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "method": "osft",
        "unfreeze_rank_ratio": 0.3,
        "checkpoint": f"phases/{name}/checkpoint",
        "fingerprint": f"{name}-fingerprint",
        "reused": name == "knowledge",
        "steps": 20,
        "tokens": 1_975_308,
        "duration_s": 3725.0,
        "preservation": {"leak_fp32": leak, "leak_saved": leak, "worst_weight": None, "update_kept": 0.875},
    }


def step(number: int) -> dict[str, Any]:
    return {
        "step": number,
        "lr": 5e-06 * (1 - number / 20),
        "loss": 2.5 / number,
        "tokens_per_second": 12345.0,
        "peak_memory_usage_GB": 41.75,
    }


def targets(layers: int = 2, free_rank: int = 1229) -> list[dict[str, Any]]:
    """Two weights a layer; the first one's leaks are 1e-06 as trained and 4.2e-03 as saved."""
    common = {"frozen_rank": 4096 - free_rank, "free_rank": free_rank}
    common |= {"update_kept": 0.875, "relative_change": 0.0123}
    common |= {"free_input_share": 0.0059, "kept_output_change": 0.0017}
    found: list[dict[str, Any]] = []
    for layer in range(layers):
        query = {"name": f"model.layers.{layer}.self_attn.q_proj", "shape": [4096, 4096]}
        down = {"name": f"model.layers.{layer}.mlp.down_proj", "shape": [4096, 14336]}
        found.append({**query, "leak_fp32": 1e-06, "leak_saved": 0.0042 / (layer + 1), **common})
        found.append({**down, "leak_fp32": 2.5e-06, "leak_saved": 0.0031 / (layer + 1), **common})
    return found


def curve(before: list[float], after: list[float], points: int = 5, every: int = 5) -> list[dict[str, Any]]:
    """`points` measurements of all sets on a straight way from one state to the other."""
    measured = []
    for place in range(points):
        share = place / (points - 1)
        values = [a + (b - a) * share for a, b in zip(before, after, strict=True)]
        figures = {name: {"exact_match": value} for name, value in zip(SETS, values, strict=True)}
        measured.append({"step": place * every, "evaluation": figures})
    return measured


def make_run_folder(folder: Path) -> Path:
    """Two finished OSFT phases of 20 steps, three evaluation sets, a warning."""
    plan = {
        "name": "study",
        "phases": [planned(0, "knowledge", 0.3), planned(1, "skills", 0.2)],
        "warnings": ["phase skills: something to think about"],
    }
    metrics = {
        "exact_match": EXACT_MATCH,
        "loss": [[0.25, 4.5, 3.75], [0.26, 0.125, 3.5], [0.27, 0.15, 0.5]],
        "token_accuracy": [[0.95, 0.1, 0.2], [0.94, 0.99, 0.2], [0.93, 0.98, 0.9]],
    }
    results = {
        "experiment": "study",
        "objective": 0.8683,
        "phases": [finished(name, 0.004) for name in PHASES],
        "retention": {"sets": SETS, "states": SETS, "metrics": metrics},
        "summary": {
            "average_accuracy": 0.8683,
            "learning_accuracy": 0.8744,
            "forgetting": 0.0275,
            "backward_transfer": -0.0125,
        },
        "command": "python -m osftx +experiment=study 'phases.skills.learning_rate=1e-5'",
        "versions": {"osftx": "0.1.0", "torch": "2.13.0"},
    }
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "results.json").write_text(json.dumps(results))
    for number, name in enumerate(PHASES, start=1):
        own = phase_folder(folder, number, name)
        own.mkdir(parents=True)
        (own / "metrics.jsonl").write_text("".join(json.dumps(step(n)) + "\n" for n in range(1, 21)))
        record = {"name": name, "world_size": 8, "device": "NVIDIA H100", "targets": targets()}
        (own / "result.json").write_text(json.dumps(record))
    return folder


def add_curves(folder: Path) -> None:
    """Measurements on the way through both phases."""
    phases = read(folder / "results.json")["phases"]
    for place, phase in enumerate(phases):
        phase["curve"] = curve(EXACT_MATCH[place], EXACT_MATCH[place + 1])
    edit(folder / "results.json", phases=phases)


def phase_folder(folder: Path, number: int, name: str) -> Path:
    return folder / "phases" / f"{number:02d}_{name}"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def job(number: int, rate: str, objective: Any, **changes: Any) -> dict[str, Any]:
    """One entry of `jobs` in sweep.json."""
    figures = {"average_accuracy": 0.512, "learning_accuracy": 0.934, "forgetting": 0.056, "backward_transfer": -0.1}
    done = {
        "number": number,
        "overrides": [],
        "state": "done",
        "failure": None,
        "objective": objective,
        "summary": figures,
    }
    done |= {"parameters": {"training.learning_rate": rate, "order": "[a,b]" if number % 2 else "[b,a]"}}
    return done | {"trained": 1, "reused": 1, "duration_s": 3725.0, "best": False} | changes


def make_sweep_folder(folder: Path, jobs: list[dict[str, Any]], **changes: Any) -> Path:
    content = {
        "objectives": ["summary.average_accuracy"],
        "directions": ["maximize"],
        "parameters": ["training.learning_rate", "order"],
        "jobs": jobs,
        "importance": {},
    }
    (folder / "sweep.json").write_text(json.dumps(content | changes))
    return folder
