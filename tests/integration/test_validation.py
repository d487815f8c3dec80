"""Validation while a phase trains, on real ranks: what is measured, what it disturbs, the best state, a resume."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked_ranks import RankServer
from safetensors.torch import load_file
from small_model import make_model, make_samples, write_samples
from torch.nn import functional
from transformers import AutoModelForCausalLM

from osftx.config.phase_spec import PhaseSpec, PreserveSpec, ResumeSpec, ValidationSpec
from osftx.config.run_layout import save_folder, saved_steps
from osftx.config.schema import BestState, CheckpointingConfig, OsftConfig, Precision, ValidationConfig
from osftx.data.samples import DataSummary, load_samples, sample_lengths, write_index
from osftx.data.splitting import split_samples

RunPhase = Callable[..., PhaseSpec]
STEPS = 12
SETTINGS: dict[str, Any] = {"num_epochs": 6, "lr_scheduler": "constant"}
"""Of a phase of 16 samples, 8 a step. At a constant learning rate a shorter phase is the beginning of a longer one."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "train", 16)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples") / "held_out", 9, seed=1)


def on_file(folder: Path, best: BestState) -> ValidationSpec:
    """Every two steps, which is every epoch."""
    return ValidationSpec(ValidationConfig(path="held_out.jsonl", every_steps=2, best=best), str(folder), 16)


@pytest.fixture(scope="module")
def kept(run_phase: RunPhase, model: Path, samples: Path, held_out: Path) -> PhaseSpec:
    return run_phase(model, samples, validation=on_file(held_out, BestState.keep), **SETTINGS)


def result(spec: PhaseSpec) -> dict[str, Any]:
    return json.loads((Path(spec.folder) / "result.json").read_text())


def metrics(spec: PhaseSpec) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(spec.folder) / "metrics.jsonl").read_text().splitlines()]


def losses(spec: PhaseSpec) -> list[float]:
    return [line["loss"] for line in metrics(spec)]


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


def loss_of(checkpoint: Path, samples: Path) -> tuple[float, float]:
    """Loss and accuracy over all counted tokens by plain torch, one sample at a time."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    total, right, tokens = 0.0, 0, 0
    with torch.no_grad():
        for row in load_samples(samples):
            ids, counted = torch.tensor(row["input_ids"]), torch.tensor(row["counted"])[1:]
            logits, labels = model(ids[None]).logits[0, :-1][counted], ids[1:][counted]
            total += functional.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(-1) == labels).sum())
            tokens += len(labels)
    return total / tokens, right / tokens


def test_what_is_measured_is_the_loss_on_all_its_tokens(kept: PhaseSpec, held_out: Path) -> None:
    validation = result(kept)["validation"]
    points = {point["step"]: point for point in validation["points"]}
    assert list(points) == [2, 4, 6, 8, 10, 12]
    best = validation["best"]
    assert best == min(points.values(), key=lambda point: point["loss"])
    assert best["step"] < STEPS, "the samples are random, so learning them by heart helps no other"
    for checkpoint, step in ((kept.checkpoint, STEPS), (kept.best, best["step"])):
        loss, accuracy = loss_of(checkpoint, held_out)
        assert points[step]["loss"] == pytest.approx(loss, rel=1e-5)
        assert points[step]["token_accuracy"] == pytest.approx(accuracy)
    assert validation["checkpoint_step"] == STEPS
    lines = {line["step"]: line for line in metrics(kept)}
    assert {step for step, line in lines.items() if "val_loss" in line} == set(points)
    assert all(lines[step]["val_loss"] == point["loss"] for step, point in points.items())


def test_it_does_not_disturb_the_training(run_phase: RunPhase, kept: PhaseSpec, model: Path, samples: Path) -> None:
    alone = run_phase(model, samples, **SETTINGS)
    assert losses(alone) == losses(kept)
    assert weights(alone.checkpoint) == weights(kept.checkpoint)
    assert result(alone)["targets"] == result(kept)["targets"]
    assert result(alone)["validation"] is None
    assert not alone.best.exists()


def test_the_best_state_is_that_of_a_phase_that_ends_there(
    run_phase: RunPhase, kept: PhaseSpec, model: Path, samples: Path, held_out: Path
) -> None:
    """Kept beside the last one, or handed on in its place: then with the leak and the evaluation of the best."""
    best = result(kept)["validation"]["best"]
    sets = {"seen": samples}
    handed = run_phase(
        model, samples, validation=on_file(held_out, BestState.hand_on), evaluation_sets=sets, **SETTINGS
    )
    shorter = run_phase(model, samples, evaluation_sets=sets, **SETTINGS | {"num_epochs": best["step"] // 2})
    assert weights(handed.checkpoint) == weights(shorter.checkpoint) == weights(kept.best)
    for key in ("targets", "evaluation"):
        assert result(handed)[key] == result(shorter)[key], key
    assert result(handed)["steps"] == STEPS
    assert result(handed)["validation"] == result(kept)["validation"] | {"checkpoint_step": best["step"]}
    assert not handed.best.exists()


@pytest.mark.parametrize("kind", ["sft", "train_others", "by_inputs"])
def test_every_kind_of_trained_weight_goes_back(
    run_phase: RunPhase, samples: Path, held_out: Path, tmp_path: Path, kind: str
) -> None:
    """In bfloat16, too: what is kept is what was trained, bit for bit."""
    start = make_model(tmp_path / "model", dtype=torch.bfloat16)
    own: dict[str, Any] = {
        "sft": {"method": "sft", "ratio": None},
        "train_others": {"osft": OsftConfig(train_others=True)},
        "by_inputs": {"preserve": PreserveSpec(record=None, samples=str(held_out), max_tokens=1000)},
    }[kind]
    # A rate at which the loss on other samples rises well before the last step, on every machine.
    settings = {"dtype": Precision.bfloat16, **SETTINGS, "learning_rate": 3e-2, **own}
    spec = run_phase(start, samples, validation=on_file(held_out, BestState.keep), **settings)
    step = int(result(spec)["validation"]["best"]["step"])
    assert step < STEPS
    shorter = run_phase(start, samples, **settings | {"num_epochs": step // 2})
    assert weights(spec.best) == weights(shorter.checkpoint) != weights(spec.checkpoint)


def test_a_split_is_not_trained_on(run_phase: RunPhase, model: Path, tmp_path: Path) -> None:
    """As if the two sides had been files of their own; the last four samples are replayed, and all trained on."""
    both = make_samples(tmp_path / "both", 20)
    rows = load_samples(both)
    digests = np.arange(20, dtype=np.uint64)
    write_index(both, DataSummary("both.jsonl", samples=20), sample_lengths(rows).astype(np.uint64), digests)
    settings = ValidationConfig(split=0.25, every_epoch=True)
    spec = run_phase(model, both, validation=ValidationSpec(settings, None, 16), num_epochs=2)
    trained, held_out = split_samples(digests, 16, 0.25, spec.training.seed)
    assert (len(trained), len(held_out)) == (16, 4)
    assert set(held_out) < set(range(16))
    sides = [
        write_samples(tmp_path / name, rows.select(places))
        for name, places in (("trained", trained), ("held_out", held_out))
    ]
    alone = run_phase(model, sides[0], num_epochs=2)
    assert losses(spec) == losses(alone)
    assert weights(spec.checkpoint) == weights(alone.checkpoint)
    assert result(spec)["samples"] == 2 * 16
    last = result(spec)["validation"]["points"][-1]
    assert (last["step"], last["loss"]) == (4, pytest.approx(loss_of(spec.checkpoint, sides[1])[0], rel=1e-5))


@pytest.fixture(scope="module")
def saved(ranks: RankServer, kept: PhaseSpec, tmp_path_factory: pytest.TempPathFactory) -> PhaseSpec:
    """The same phase, saved after every step; what it leaves is as without saves."""
    spec = again(kept, tmp_path_factory.mktemp("saved"))
    ranks.run(spec)
    assert weights(spec.best) == weights(kept.best)
    assert result(spec)["validation"] == result(kept)["validation"]
    return spec


def again(spec: PhaseSpec, folder: Path) -> PhaseSpec:
    copy = PhaseSpec.load(Path(spec.folder) / "phase.yaml")
    copy.folder = str(folder / "phase")
    copy.resume = ResumeSpec(
        str(folder / "room"), str(folder / "eigenvectors"), CheckpointingConfig(every_steps=1, keep=STEPS)
    )
    copy.save()
    return copy


@pytest.mark.parametrize("nproc", [2, 1])
def test_a_phase_that_goes_on_has_the_same_list_and_the_same_best(
    ranks: RankServer, kept: PhaseSpec, saved: PhaseSpec, tmp_path: Path, nproc: int
) -> None:
    """Broken off after the best state was reached, so that only the save has it."""
    best = int(result(kept)["validation"]["best"]["step"])
    spec = again(saved, tmp_path)
    spec.distributed.nproc_per_node = nproc
    spec.save()
    assert saved.resume is not None
    assert spec.resume is not None
    room = Path(spec.resume.folder)
    shutil.copytree(saved.resume.folder, room)
    for step in saved_steps(room):
        if step > best + 1:
            shutil.rmtree(save_folder(room, step))
    assert saved_steps(room)[0] == best + 1
    ranks.run(spec)
    assert len(losses(spec)) == STEPS
    found, expected = result(spec)["validation"], result(kept)["validation"]
    assert found["best"] == expected["best"]
    if nproc == 2:
        assert found == expected
        assert weights(spec.checkpoint) == weights(kept.checkpoint)
        assert weights(spec.best) == weights(kept.best)
    else:  # the same up to rounding
        points = zip(found["points"], expected["points"], strict=True)
        assert all(point["loss"] == pytest.approx(other["loss"], rel=1e-3) for point, other in points)
        one, other = (load_file(folder / "model.safetensors") for folder in (spec.best, kept.best))
        assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-6) for name in one)
