"""A user's callbacks on real ranks: where they are found, what they see, and what their failures do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import watching_callbacks
from checkout import ROOT
from forked_ranks import RankServer
from phases import make_phase
from small_model import make_model, make_samples
from watching_callbacks import read

from osftx.config.phase_spec import PhaseSpec, ResumeSpec, ValidationSpec
from osftx.config.run_layout import CURVE, save_folder, saved_steps
from osftx.config.schema import CallbackConfig, CheckpointingConfig, ValidationConfig
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster

RunPhase = Callable[..., PhaseSpec]
STEPS = 4
CURVE_STEPS = 2
SETTINGS: dict[str, Any] = {"num_epochs": 2, "evaluate_every_steps": CURVE_STEPS}
"""Of a phase of 16 samples, 8 a step. It is validated every two steps and saved after each."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "train", 16)


@pytest.fixture(scope="module")
def settings(samples: Path) -> dict[str, Any]:
    validation = ValidationSpec(ValidationConfig(path="own.jsonl", every_steps=2), str(samples), 16)
    return SETTINGS | {"evaluation_sets": {"seen": samples}, "validation": validation}


@pytest.fixture(scope="module")
def start_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user starts a run: the folder of a module that is nowhere else."""
    folder = tmp_path_factory.mktemp("start")
    shutil.copy(watching_callbacks.__file__, folder / "users_callbacks.py")
    return folder


def started_in(folder: Path, spec: PhaseSpec) -> None:
    """The phase on ranks of its own, as a run that was started in `folder` starts them."""
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        Cluster().launch(spec)


def watched(spec: PhaseSpec, folder: Path, *callbacks: CallbackConfig) -> PhaseSpec:
    """The phase in another folder, with callbacks and with a folder for saves."""
    copy = PhaseSpec.load(Path(spec.folder) / "phase.yaml")
    copy.folder = str(folder / "phase")
    copy.callbacks = list(callbacks)
    checkpointing = CheckpointingConfig(every_steps=1, keep=STEPS)
    copy.resume = ResumeSpec(str(folder / "room"), str(folder / "eigenvectors"), checkpointing)
    copy.save()
    return copy


def watch(file: Path, module: str = "users_callbacks", name: str = "Watch") -> CallbackConfig:
    return CallbackConfig(f"{module}.{name}", {"file": str(file)})


@pytest.fixture(scope="module")
def alone(run_phase: RunPhase, model: Path, samples: Path, settings: dict[str, Any]) -> PhaseSpec:
    """The phase without callbacks."""
    return run_phase(model, samples, **settings)


@pytest.fixture(scope="module")
def observed(
    alone: PhaseSpec, start_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PhaseSpec, Path, Path]:
    """The same phase with callbacks, and what those on rank 0 and on all ranks have written."""
    folder = tmp_path_factory.mktemp("observed")
    here, everywhere = folder / "rank_0.jsonl", folder / "all_ranks.jsonl"
    spec = watched(
        alone,
        folder,
        CallbackConfig("users_callbacks.FailQuietly"),
        watch(here),
        watch(everywhere, name="WatchEverywhere"),
    )
    started_in(start_folder, spec)
    return spec, here, everywhere


def metrics(spec: PhaseSpec) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(spec.folder) / "metrics.jsonl").read_text().splitlines()]


def result(spec: PhaseSpec) -> dict[str, Any]:
    return json.loads((Path(spec.folder) / "result.json").read_text())


def weights(spec: PhaseSpec) -> bytes:
    return (spec.checkpoint / "model.safetensors").read_bytes()


def hooks(calls: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(call["hook"], call["steps"]) for call in calls]


def of(calls: list[dict[str, Any]], hook: str) -> list[dict[str, Any]]:
    return [call for call in calls if call["hook"] == hook]


BEGINNING = [("start", 0), ("evaluate", 0), ("step", 1), ("save", 1), ("step", 2), ("save", 2)]
REST = [("step", 3), ("save", 3), ("step", 4), ("save", 4), ("evaluate", 4), ("end", 4)]


def test_every_hook_is_called_in_its_order(observed: tuple[PhaseSpec, Path, Path]) -> None:
    """A step is told before it is saved, and saved before it is measured."""
    _, here, _ = observed
    assert hooks(read(here)) == [*BEGINNING, ("evaluate", 2), *REST]


def test_what_the_hooks_are_told_is_what_the_phase_leaves(observed: tuple[PhaseSpec, Path, Path]) -> None:
    spec, here, _ = observed
    calls, left = read(here), result(spec)
    start = calls[0]
    assert start["folder"] == spec.folder
    assert (start["name"], start["index"], start["method"], start["total_steps"]) == ("study", 0, "osft", STEPS)
    assert start["learning_rate"] == pytest.approx(spec.training.learning_rate)
    assert [call["metrics"] for call in of(calls, "step")] == metrics(spec)
    assert ["val_loss" in call["metrics"] for call in of(calls, "step")] == [False, True, False, True]
    assert of(calls, "step")[-1]["tokens"] == left["tokens"]
    assert [call["evaluation"] for call in of(calls, "evaluate")] == [
        left["evaluation_before"],
        left["curve"][0]["evaluation"],
        left["evaluation"],
    ]
    assert [call["step"] for call in of(calls, "evaluate")] == [0, CURVE_STEPS, STEPS]
    assert spec.resume is not None
    assert [call["folder"] for call in of(calls, "save")] == [
        str(save_folder(Path(spec.resume.folder), step)) for step in range(1, STEPS + 1)
    ]
    assert all(call["is_whole"] for call in of(calls, "save"))
    assert of(calls, "end")[0]["result"] == left


def test_one_on_all_ranks_sees_the_same_everywhere(observed: tuple[PhaseSpec, Path, Path]) -> None:
    _, here, everywhere = observed
    first, second = read(everywhere, rank=0), read(everywhere, rank=1)
    assert hooks(first) == hooks(second) == hooks(read(here))
    assert read(here, rank=1) == []
    for hook in ("evaluate", "end"):
        assert [call | {"rank": 1} for call in of(first, hook)] == of(second, hook)


def test_callbacks_change_nothing_that_is_trained(alone: PhaseSpec, observed: tuple[PhaseSpec, Path, Path]) -> None:
    spec, *_ = observed
    assert weights(spec) == weights(alone)
    assert [line["loss"] for line in metrics(spec)] == [line["loss"] for line in metrics(alone)]
    for key in ("evaluation", "evaluation_before", "curve", "validation", "targets"):
        assert result(spec)[key] == result(alone)[key], key


def test_a_phase_that_resumes_tells_what_is_left(
    ranks: RankServer, observed: tuple[PhaseSpec, Path, Path], tmp_path: Path
) -> None:
    """From a step that was saved, but not yet measured."""
    before, *_ = observed
    file = tmp_path / "resumed.jsonl"
    spec = watched(before, tmp_path, watch(file, "watching_callbacks"))
    assert before.resume is not None
    assert spec.resume is not None
    room = Path(spec.resume.folder)
    shutil.copytree(before.resume.folder, room)
    (room / CURVE).unlink()
    for step in saved_steps(room):
        if step > CURVE_STEPS:
            shutil.rmtree(save_folder(room, step))
    ranks.run(spec)
    assert hooks(read(file)) == [("start", 2), ("evaluate", 2), *REST]
    assert [call["metrics"] for call in of(read(file), "step")] == metrics(spec)[CURVE_STEPS:]
    assert [line["step"] for line in metrics(spec)] == [1, 2, 3, 4]
    assert result(spec)["curve"] == result(before)["curve"]
    assert weights(spec) == weights(before)


def test_a_failure_ends_the_training_and_is_told(
    alone: PhaseSpec, start_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the module is found by PYTHONPATH."""
    python_path = [str(start_folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(python_path))
    spec = watched(alone, tmp_path, CallbackConfig("users_callbacks.Fail"))
    with pytest.raises(TrainingError) as failed:
        started_in(tmp_path, spec)
    assert "phase 'study' failed on rank 0 (exit code 1): CallbackError: callback users_callbacks.Fail" in str(
        failed.value
    )
    assert "failed in on_step of phase 'study' (ValueError: no more)" in str(failed.value)
    assert len(metrics(spec)) == 2
    assert not (Path(spec.folder) / "result.json").exists()


def test_a_quiet_failure_is_told_once(ranks: RankServer, alone: PhaseSpec, tmp_path: Path) -> None:
    spec = watched(alone, tmp_path, CallbackConfig("watching_callbacks.FailQuietly"))
    ranks.run(spec)
    shown = (Path(spec.folder) / "rank_0.log").read_text()
    assert shown.count("warning: callback watching_callbacks.FailQuietly failed in on_step of phase 'study'") == 1
    assert "(ValueError: no more); it is not called again, and the training goes on" in shown
    assert weights(spec) == weights(alone)


def test_what_is_no_callback_is_named_before_the_model_is_read(
    ranks: RankServer, alone: PhaseSpec, tmp_path: Path
) -> None:
    spec = watched(alone, tmp_path, CallbackConfig("json.JSONDecoder"))
    with pytest.raises(RuntimeError, match=r"CallbackError: callback json\.JSONDecoder: is not a class that derives"):
        ranks.run(spec)


def test_a_phase_that_trains_nothing_has_a_start_and_an_end(
    ranks: RankServer, model: Path, samples: Path, tmp_path: Path
) -> None:
    file = tmp_path / "calls.jsonl"
    spec = make_phase(tmp_path / "phase", model, samples, ratio=0.0, evaluation_sets={"seen": samples})
    spec.callbacks = [watch(file, "watching_callbacks")]
    spec.save()
    ranks.run(spec)
    assert hooks(read(file)) == [("start", 0), ("evaluate", 0), ("evaluate", 0), ("end", 0)]
    assert of(read(file), "start")[0]["total_steps"] == 0


def test_a_phase_that_is_measured_alone_calls_nothing(
    ranks: RankServer, model: Path, samples: Path, tmp_path: Path
) -> None:
    """As a phase that is reused from the store."""
    file = tmp_path / "calls.jsonl"
    spec = make_phase(tmp_path / "phase", model, samples, evaluation_sets={"seen": samples})
    spec.evaluate_only = True
    spec.callbacks = [watch(file, "watching_callbacks")]
    spec.save()
    ranks.run(spec)
    assert result(spec).keys() == {"evaluation"}
    assert not file.exists()


def test_a_run_finds_them_from_where_it_is_started(start_folder: Path, tmp_path: Path) -> None:
    """Each of its phases calls them; those that are reused call nothing."""
    (start_folder / "experiments").symlink_to(ROOT / "experiments")
    file = tmp_path / "calls.jsonl"
    command = [
        *(sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", "~evaluation"),
        *("phases.knowledge.num_epochs=1", "phases.skills.num_epochs=1", "distributed.nproc_per_node=1"),
        f"callbacks=[{{path: users_callbacks.Watch, settings: {{file: '{file}'}}}}]",
        f"store_dir={tmp_path / 'store'}",
    ]
    python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(name: str) -> str:
        done = subprocess.run(
            [*command, f"output_dir={tmp_path / name}"],
            cwd=start_folder,
            env=os.environ | {"PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run("first")
    calls = read(file)
    assert [call["name"] for call in of(calls, "start")] == ["knowledge", "skills"]
    assert [call["index"] for call in of(calls, "start")] == [0, 1]
    for place, name in enumerate(("01_knowledge", "02_skills")):
        ended = of(calls, "end")[place]["result"]
        written = json.loads((tmp_path / "first" / "phases" / name / "result.json").read_text())
        assert {key for key in ended if ended[key] != written[key]} <= {"evaluation_before"}  # the run looks it up
    assert of(calls, "evaluate") == []
    assert "reused" in run("second")
    assert read(file) == calls
