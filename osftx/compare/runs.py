"""Read the runs to compare: a run folder, or a folder of such, as a sweep leaves it. Every problem is found at once."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from osftx.config.load import typed
from osftx.config.phases import phases_to_run
from osftx.config.run_layout import CONFIG, JOB, PLAN, RESULTS
from osftx.config.schema import ExperimentConfig
from osftx.data.mixing import DRAWN
from osftx.errors import ConfigurationError

Json = dict[str, Any]

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError)
"""What a file that is missing, cut off or of another shape raises."""


@dataclass
class RunRecord:
    folder: Path
    config: ExperimentConfig
    ratios: dict[str, float | None]
    """The unfreeze ratio that each phase was trained with, whatever it came from."""
    results: Json
    """The content of results.json."""
    training_s: float
    """Of the steps of all phases, measurements apart; of a reused phase, when it was trained."""
    peak_memory_gb: float | None
    """The most that rank 0 held at any step; None where nothing was recorded."""
    devices: frozenset[tuple[str, int]]
    """(name, number of ranks) that phases were trained on."""
    contents: dict[str, str]
    """Fingerprint of the tokenised data, by the key of its path: a file may have been moved, or changed in place."""
    label: str | None = None
    """Given on the command line."""

    @property
    def phases(self) -> list[str]:
        """Those that ran, in order."""
        return [phase["name"] for phase in self.results["phases"]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """One a phase; one alone where all are the same."""
        seeds = tuple(phase.seed for _, _, phase in phases_to_run(self.config))
        return seeds[:1] if len(set(seeds)) == 1 else seeds

    @property
    def tokens(self) -> int:
        return sum(phase["tokens"] for phase in self.results["phases"])

    @property
    def reused(self) -> bool:
        return any(phase["reused"] for phase in self.results["phases"])


def read_runs(
    given: list[Path], labelled: list[tuple[str, Path]], known: Sequence[str] = ()
) -> tuple[list[RunRecord], list[str]]:
    """The runs in the order in which they were given, those `labelled` alone last, and what was left out.

    Raises ConfigurationError with every problem, those that are `known` already first.
    """
    problems = list(known)
    left_out: list[str] = []
    labels: dict[Path, str] = {}
    first_named: dict[Path, Path] = {}
    runs: list[RunRecord] = []

    def name(path: Path, label: str | None) -> None:
        found, skipped, wrong = run_folders(path)
        problems.extend(wrong)
        left_out.extend(text for text in skipped if text not in left_out)
        for folder in found:
            real = folder.resolve()
            if label is not None:
                if labels.setdefault(real, label) != label:
                    problems.append(f"--label {label}={path}: {folder} has the label {labels[real]} already; give one")
                first_named.setdefault(real, folder)
            elif real in first_named:
                problems.append(f"{folder}: given twice; leave one out")
            else:
                first_named[real] = folder

    for path in given:
        name(path, None)
    for label, path in labelled:
        name(path, label)
    for real, folder in first_named.items():
        try:
            run = read_run(folder)
        except ConfigurationError as error:
            problems.extend(error.problems)
        else:
            run.label = labels.get(real)
            runs.append(run)
    if problems:
        raise ConfigurationError(problems)
    return runs, left_out


def run_folders(path: Path) -> tuple[list[Path], list[str], list[str]]:
    """(the finished runs in a folder, or the folder itself; which jobs were left out, and why; problems)"""
    if not path.is_dir():
        return [], [], [f"{path}: there is no such folder; give the folder of a run or of a sweep"]
    if any((path / name).exists() for name in (RESULTS, PLAN)):
        return [path], [], []
    jobs = sorted(
        (inner for inner in path.iterdir() if any((inner / name).exists() for name in (PLAN, JOB, RESULTS))),
        key=lambda inner: (not inner.name.isdigit(), int(inner.name) if inner.name.isdigit() else 0, inner.name),
    )
    finished = [job for job in jobs if _ended_early(job) is None]
    left_out = [f"{job} is left out: {_ended_early(job)}" for job in jobs if job not in finished]
    if finished:
        return finished, left_out, []
    if jobs:
        return [], [], [f"{path}: none of its {len(jobs)} jobs was done; resume the sweep (sweep.resume={path})"]
    return [], [], [f"{path}: neither a run nor a sweep, it has no {RESULTS}; give the folder that a run has named"]


def read_run(folder: Path) -> RunRecord:
    """One run. Raises ConfigurationError."""
    if (reason := _ended_early(folder)) is not None:
        raise ConfigurationError([f"{folder}: {reason}; give the run's command again, or leave it out"])
    try:
        results = _json(folder / RESULTS)
        ratios = {phase["name"]: phase["unfreeze_rank_ratio"] for phase in _json(folder / PLAN)["phases"]}
        config = _config(folder / CONFIG)
        _check_shape(results, config, list(ratios))
        metrics = [line for path in sorted(folder.glob("phases/*/metrics.jsonl")) for line in _lines(path)]
        training_s = sum(line["time_per_batch"] for line in metrics)
        memory = [line["peak_memory_usage_GB"] for line in metrics if line.get("peak_memory_usage_GB")]
        made = [_json(path) for path in sorted(folder.glob("phases/*/result.json"))]
        devices = frozenset((phase["device"], phase["world_size"]) for phase in made)
        contents = dict(_contents(folder))
        if missing := [name for name in ratios if f"phases.{name}.data.path" not in contents]:
            raise ValueError(f"phases/*_{missing[0]}/phase.yaml is missing, which tells the data")
    except (*UNREADABLE, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            [f"{folder}: cannot be read ({type(error).__name__}: {reason}); is it whole, and of this version of osftx?"]
        ) from error
    return RunRecord(folder, config, ratios, results, training_s, max(memory, default=None), devices, contents)


def _ended_early(folder: Path) -> str | None:
    """Why the run is not done; None if it is, or if its files cannot be read (which `read_run` tells)."""
    if not (folder / RESULTS).exists():
        return f"no {RESULTS}, the run ended early or is not done"
    try:
        done, planned = (len(_json(folder / name)["phases"]) for name in (RESULTS, PLAN))
    except UNREADABLE:
        return None
    return f"the run ended early or is not done: {done} of {planned} phases" if done < planned else None


def _check_shape(results: Json, config: ExperimentConfig, planned: list[str]) -> None:
    """Whether everything that is read later is there. Raises KeyError or ValueError."""
    names = ([phase["name"] for phase in results["phases"]], planned, [name for _, name, _ in phases_to_run(config)])
    if any(one != planned for one in names):
        raise ValueError(f"{RESULTS}, {PLAN} and {CONFIG} are of different phases")
    for phase in results["phases"]:
        _ = [phase[key] for key in ("name", "reused", "steps", "tokens")]
    retention, _, _ = results["retention"], results["summary"], results["start"]
    if unknown := set(retention["sets"]) - config.evaluation.sets.keys():
        raise ValueError(f"{CONFIG} has no evaluation set {', '.join(sorted(unknown))}")
    for phase in results["phases"]:
        for state in phase.get("curve") or []:
            if missing := set(retention["sets"]) - state["evaluation"].keys():
                raise ValueError(f"the curve of {phase['name']} lacks {missing.pop()} at step {state['step']}")
    for metric in ("exact_match", "loss"):
        if any(len(row) != len(retention["sets"]) for row in retention["metrics"][metric]):
            raise ValueError(f"a row of retention.metrics.{metric} is not of {len(retention['sets'])} sets")
        if len(retention["metrics"][metric]) != len(results["phases"]) + 1:
            raise ValueError(f"retention.metrics.{metric} has not one row a phase, and one for the base")


def _config(path: Path) -> ExperimentConfig:
    """What a version of osftx with fewer keys has written gets the defaults of the others."""
    config = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), OmegaConf.load(path))
    assert OmegaConf.is_dict(config)
    return typed(config)  # type: ignore[arg-type]  # is_dict is no type guard


def _contents(folder: Path) -> Iterator[tuple[str, str]]:
    """What `phase.yaml` names: folders of tokenised samples, called by a hash of file, tokenizer and longest sample.

    What was drawn of it, for replay or by weights, stands behind it: runs of other seeds are one group.
    """
    for path in sorted(folder.glob("phases/*/phase.yaml")):
        phase: Any = OmegaConf.to_container(OmegaConf.load(path))
        named = {f"phases.{phase['name']}.data.path": phase["data"]}
        if (phase.get("preserve") or {}).get("samples"):
            named["preserve.data.path"] = phase["preserve"]["samples"]
        named |= {f"evaluation.sets.{name}.path": samples for name, samples in phase["evaluation_sets"].items()}
        yield from ((key, Path(samples).name.partition(DRAWN)[0]) for key, samples in named.items())


def _json(path: Path) -> Json:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _lines(path: Path) -> Iterator[Json]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
