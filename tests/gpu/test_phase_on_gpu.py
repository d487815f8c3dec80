"""One phase on a GPU: what a CPU gives, in the forms that only a GPU has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_model import make_model, make_samples

from osftx.config.phase_spec import PhaseSpec, PreserveSpec, ResumeSpec
from osftx.config.run_layout import save_folder, saved_steps
from osftx.config.schema import Accelerator, CheckpointingConfig, OffloadConfig, Precision
from osftx.launch.cluster import Cluster

RunPhase = Callable[..., PhaseSpec]
STEPS = 14
SETTINGS: dict[str, Any] = {"num_epochs": 4}
"""Of a phase of 28 samples, 8 a step."""
BFLOAT16: dict[str, Any] = {**SETTINGS, "dtype": Precision.bfloat16}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "train", 28)


@pytest.fixture(scope="module")
def kept_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "kept", 30, seed=2)


def losses(spec: PhaseSpec) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(spec.folder) / "metrics.jsonl").open()]


def result(spec: PhaseSpec) -> dict[str, Any]:
    return json.loads((Path(spec.folder) / "result.json").read_text())


def weights(spec: PhaseSpec) -> bytes:
    return (spec.checkpoint / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["sft", "by_weights", "by_inputs"])
def test_it_trains_as_a_cpu_does(
    run_phase: RunPhase, model: Path, samples: Path, kept_samples: Path, kind: str
) -> None:
    """In fp32: the losses, what is measured, and the weights, of which only the targets' free directions change."""
    kinds: dict[str, dict[str, Any]] = {
        "sft": {"method": "sft", "ratio": None, "learning_rate": 1e-3},
        "by_weights": {},
        "by_inputs": {"preserve": PreserveSpec(record=None, samples=str(kept_samples), max_tokens=1000)},
    }
    settings = {**SETTINGS, **kinds[kind], "evaluation_sets": {"train": samples, "kept": kept_samples}}
    gpu, cpu = (run_phase(model, samples, accelerator=one, **settings) for one in (Accelerator.cuda, Accelerator.cpu))
    assert result(gpu)["device"] == torch.cuda.get_device_name()
    assert result(cpu)["device"] == "cpu"
    assert losses(gpu) == pytest.approx(losses(cpu), rel=1e-3)
    for state in ("evaluation_before", "evaluation"):
        for name, figures in result(cpu)[state].items():
            assert result(gpu)[state][name] == pytest.approx(figures, rel=1e-3), (state, name)
    before = load_file(model / "model.safetensors")
    one, other = (load_file(spec.checkpoint / "model.safetensors") for spec in (gpu, cpu))
    for name, start in before.items():
        if torch.equal(other[name], start):
            assert torch.equal(one[name], start), name
        else:
            change = other[name] - start
            assert torch.linalg.norm(one[name] - other[name]) < 2e-2 * torch.linalg.norm(change), name
    for target in result(gpu)["targets"]:
        assert target["leak_fp32"] < 1e-5
        assert target["leak_saved"] < 1e-4


def test_in_bfloat16_it_leaks_by_its_rounding_alone(run_phase: RunPhase, model: Path, samples: Path) -> None:
    spec = run_phase(model, samples, evaluation_sets={"train": samples}, **BFLOAT16)
    assert load_file(spec.checkpoint / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16
    for target in result(spec)["targets"]:
        assert target["leak_fp32"] < 1e-5
        assert target["leak_saved"] < 0.05
    assert result(spec)["evaluation"]["train"]["loss"] < result(spec)["evaluation_before"]["train"]["loss"]


@pytest.mark.parametrize("change", ["liger", "checkpointing", "offload"])
def test_what_saves_memory_or_time_trains_the_same(
    run_phase: RunPhase, model: Path, samples: Path, change: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "liger": {"use_liger": True},
        "checkpointing": {"activation_checkpointing": True},
        "offload": {"offload": OffloadConfig(optimizer=True, bases=True)},
    }
    plain, changed = (run_phase(model, samples, **SETTINGS, **more) for more in ({}, changes[change]))
    assert losses(changed) == pytest.approx(losses(plain), rel=1e-3)


def test_deterministic_kernels_give_the_same_bits_also_after_a_break(
    run_phase: RunPhase, model: Path, samples: Path, tmp_path: Path
) -> None:
    settings = {**BFLOAT16, "deterministic": True, "use_liger": True, "activation_checkpointing": True}
    first, second = (run_phase(model, samples, **settings) for _ in range(2))
    assert result(first)["deterministic"] is True
    assert weights(first) == weights(second)

    second.resume = ResumeSpec(
        str(tmp_path / "unfinished"), str(tmp_path / "eigenvectors"), CheckpointingConfig(every_steps=4, keep=9)
    )
    second.save()
    Cluster().launch(second)
    saves = Path(second.resume.folder)
    assert saved_steps(saves) == [STEPS, 12, 8, 4]
    assert weights(second) == weights(first)
    for steps in (STEPS, 12):
        save_folder(saves, steps).rename(tmp_path / str(steps))
    Cluster().launch(second)
    assert weights(second) == weights(first)
    assert losses(second) == losses(first)
    assert len(losses(second)) == STEPS
