"""A phase that is broken off and goes on, on real ranks: the same bits as one that was left alone."""

import json
import os
import re
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import RankServer
from safetensors.torch import load_file
from small_model import make_model, make_samples

from osftx.config.phase_spec import PhaseSpec, ResumeSpec
from osftx.config.run_layout import save_folder, saved_steps
from osftx.config.schema import CheckpointingConfig, OffloadConfig, Precision
from osftx.errors import StoppedError, TrainingError
from osftx.launch.cluster import Cluster
from osftx.store.fingerprint import start_of
from osftx.utils.manifest import describe

STEPS = 24
SETTINGS: dict[str, Any] = {"num_epochs": 12, "dtype": Precision.bfloat16, "evaluate_every_steps": 4}
"""Of a phase of 16 samples, 8 a step."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and samples."""
    folder = tmp_path_factory.mktemp("inputs")
    return make_model(folder / "model", dtype=torch.bfloat16), make_samples(folder / "samples", 16)


@pytest.fixture(scope="module")
def undisturbed(run_phase: Callable[..., PhaseSpec], inputs: tuple[Path, Path]) -> PhaseSpec:
    return run_phase(*inputs, evaluation_sets={"seen": inputs[1]}, **SETTINGS)


@pytest.fixture(scope="module")
def broken_off(undisturbed: PhaseSpec, tmp_path_factory: pytest.TempPathFactory) -> PhaseSpec:
    """The same phase, stopped by SIGTERM to one of its ranks after some steps."""
    spec = again(undisturbed, tmp_path_factory.mktemp("broken_off"))
    stopper = threading.Thread(target=stop_a_rank, args=(spec, 5))
    stopper.start()
    with pytest.raises(StoppedError, match=r"saved after step \d+"):
        Cluster().launch(spec)
    stopper.join()
    assert 5 <= saved_steps(Path(spec.resume.folder))[0] < STEPS
    assert not (Path(spec.folder) / "result.json").exists()
    return spec


def again(spec: PhaseSpec, folder: Path, resume_from: PhaseSpec | None = None, nproc: int = 2) -> PhaseSpec:
    """The phase in another folder, with a folder for saves, which may be a copy of another's."""
    copy = PhaseSpec.load(Path(spec.folder) / "phase.yaml")
    copy.folder = str(folder / "phase")
    copy.distributed.nproc_per_node = nproc
    copy.resume = ResumeSpec(
        str(folder / "unfinished"), str(folder / "eigenvectors"), CheckpointingConfig(every_steps=2, keep=2)
    )
    if resume_from is not None:
        assert resume_from.resume is not None
        shutil.copytree(resume_from.resume.folder, copy.resume.folder)
    copy.save()
    return copy


def stop_a_rank(spec: PhaseSpec, after_steps: int) -> None:
    metrics, deadline = Path(spec.folder) / "metrics.jsonl", time.monotonic() + 100
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") >= after_steps:
            break
        time.sleep(0.005)
    for entry in Path("/proc").iterdir():
        if (
            entry.name.isdigit()
            and spec.folder in _read(entry / "cmdline")
            and "\0RANK=1\0" in _read(entry / "environ")
        ):
            os.kill(int(entry.name), signal.SIGTERM)


def _read(path: Path) -> str:
    try:
        return "\0" + path.read_bytes().decode(errors="replace") + "\0"
    except OSError:  # it ended meanwhile
        return ""


def weights(spec: PhaseSpec) -> bytes:
    return (spec.checkpoint / "model.safetensors").read_bytes()


def metrics(spec: PhaseSpec) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (Path(spec.folder) / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("step", "lr", "loss", "grad_norm", "num_total_tokens")} for line in lines]


def result(spec: PhaseSpec) -> dict[str, Any]:
    return json.loads((Path(spec.folder) / "result.json").read_text())


def test_it_goes_on_with_the_same_bits(
    undisturbed: PhaseSpec, broken_off: PhaseSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = again(undisturbed, tmp_path, broken_off)
    saved = saved_steps(Path(spec.resume.folder))[0]
    Cluster().launch(spec)
    assert f"going on after step {saved} of {STEPS}" in capfd.readouterr().out
    assert weights(spec) == weights(undisturbed)
    assert metrics(spec) == metrics(undisturbed)
    assert [line["step"] for line in metrics(spec)] == list(range(1, STEPS + 1))
    for key in ("steps", "samples", "tokens", "evaluation_before", "evaluation", "curve", "targets"):
        assert result(spec)[key] == result(undisturbed)[key], key
    assert saved_steps(Path(spec.resume.folder)) == [STEPS, STEPS - 2]  # the last two


@pytest.mark.parametrize("nproc, offload", [(3, False), (2, True)])
def test_it_goes_on_on_other_machines(
    ranks: RankServer, undisturbed: PhaseSpec, broken_off: PhaseSpec, tmp_path: Path, nproc: int, offload: bool
) -> None:
    """Up to the rounding of bfloat16: three ranks, or an optimizer in host memory, sum in another order.

    And with other data for the evaluation set, on which the start model is then measured anew.
    """
    spec = again(undisturbed, tmp_path, broken_off, nproc)
    spec.distributed.offload = OffloadConfig(optimizer=offload, bases=offload)
    spec.evaluation_sets = {"seen": str(make_samples(tmp_path / "other", 5, seed=1))}
    spec.save()
    saved = saved_steps(Path(spec.resume.folder))[0]
    ranks.run(spec)
    assert metrics(spec)[:saved] == metrics(undisturbed)[:saved]
    for state in ("evaluation_before", "evaluation"):
        assert (result(spec)[state]["seen"]["samples"], result(undisturbed)[state]["seen"]["samples"]) == (5, 16)
    for line, expected in zip(metrics(spec)[saved:], metrics(undisturbed)[saved:], strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=0.02)
    start = load_file(Path(spec.model.path) / "model.safetensors")
    one, other = (
        load_file(spec.checkpoint / "model.safetensors"),
        load_file(undisturbed.checkpoint / "model.safetensors"),
    )
    name = "model.layers.0.mlp.up_proj.weight"
    change, expected_change = one[name].float() - start[name].float(), other[name].float() - start[name].float()
    assert torch.linalg.norm(change - expected_change) <= 0.1 * torch.linalg.norm(expected_change)


def test_a_damaged_save_is_not_used(
    undisturbed: PhaseSpec, broken_off: PhaseSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The one before is, and the end is the same."""
    spec = again(undisturbed, tmp_path, broken_off)
    folder = Path(spec.resume.folder)
    newest, before = saved_steps(folder)
    file = save_folder(folder, newest) / "__1_0.distcp"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    Cluster().launch(spec)
    shown = capfd.readouterr().out
    assert re.search(rf"the save .*step_{newest:08d} is damaged \(__1_0.distcp has another content\)", shown)
    assert f"going on after step {before} of {STEPS}" in shown
    assert weights(spec) == weights(undisturbed)
    assert result(spec)["curve"] == result(undisturbed)["curve"]
    assert [point["step"] for point in result(spec)["curve"]] == [4, 8, 12, 16, 20]
    assert saved_steps(folder) == [STEPS, STEPS - 2]


def test_a_planted_pickle_does_not_run(
    undisturbed: PhaseSpec, broken_off: PhaseSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even where the manifest agrees with it. The save before is used."""
    spec = again(undisturbed, tmp_path, broken_off)
    newest, before = saved_steps(Path(spec.resume.folder))
    save, mark = save_folder(Path(spec.resume.folder), newest), tmp_path / "mark"
    (save / ".metadata").write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    manifest = json.loads((save / "manifest.json").read_text())
    manifest["files"][".metadata"] = describe(save / ".metadata")
    (save / "manifest.json").write_text(json.dumps(manifest))
    Cluster().launch(spec)
    shown = capfd.readouterr().out
    assert "is damaged (its .metadata is none of a save (it names os.system, which no save holds))" in shown
    assert f"going on after step {before} of {STEPS}" in shown
    assert weights(spec) == weights(undisturbed)
    assert not mark.exists()


def test_saves_of_another_user_are_not_read(undisturbed: PhaseSpec, broken_off: PhaseSpec, tmp_path: Path) -> None:
    spec = again(undisturbed, tmp_path, broken_off)
    newest = save_folder(Path(spec.resume.folder), saved_steps(Path(spec.resume.folder))[0])
    newest.chmod(0o777)
    with pytest.raises(TrainingError, match=f"another user may have written them: every user can write {newest}"):
        Cluster().launch(spec)
    assert newest.is_dir()


def test_a_model_that_was_swapped_before_it_was_loaded_ends_the_phase(undisturbed: PhaseSpec, tmp_path: Path) -> None:
    """Before the first step, and nothing is left that could be stored."""
    spec = again(undisturbed, tmp_path)
    model = Path(spec.model.path)
    planned = start_of(model, None).files
    spec.start_files = [
        replace(file, sha256="0" * 64, state=None) if file.name.endswith(".safetensors") else file for file in planned
    ]
    spec.save()
    with pytest.raises(TrainingError, match=r"model\.safetensors: was changed after this phase was planned"):
        Cluster().launch(spec)
    assert not spec.checkpoint.exists()
    assert saved_steps(Path(spec.resume.folder)) == []


def test_a_full_disk_costs_the_save_alone(
    undisturbed: PhaseSpec, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for it: files may not grow beyond what all but the saves need."""
    spec = again(undisturbed, tmp_path)
    spec.evaluate_every_steps = None  # measuring in between does not change what is trained
    spec.save()
    largest = max(path.stat().st_size for path in Path(undisturbed.folder).rglob("*") if path.is_file())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 4096, hard))
    try:
        Cluster().launch(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    shown = capfd.readouterr().out
    (warning,) = [line for line in shown.splitlines() if line.startswith("warning: step 2 could not be saved")]
    assert spec.resume.folder in warning
    assert "File too large" in warning
    assert saved_steps(Path(spec.resume.folder)) == []
    assert not list(Path(spec.resume.folder).glob("*.partial"))
    assert weights(spec) == weights(undisturbed)
