"""What changes a phase's fingerprint, and what does not."""

import os
import shutil
import time
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from osftx.config.identity import Use, ignored_phase_keys
from osftx.config.phase_spec import PhaseSpec, PreserveSpec, ValidationSpec
from osftx.config.schema import (
    Accelerator,
    BestState,
    CallbackConfig,
    DistributedConfig,
    ModelConfig,
    OffloadConfig,
    OsftConfig,
    Precision,
    RankAllocation,
    TrainingConfig,
    ValidationConfig,
)
from osftx.store import fingerprint
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_files, of_phase, start_of
from osftx.utils import known_digests

SPEC = PhaseSpec(
    index=0,
    name="knowledge",
    method="osft",
    unfreeze_rank_ratio=0.3,
    model=ModelConfig(path="/models/base"),
    training=TrainingConfig(use_liger=False),
    osft=OsftConfig(),
    distributed=DistributedConfig(),
    data="/run/data/abc",
    folder="/run/phases/01_knowledge",
    evaluation_max_tokens=64,
)


def changed(**changes: Any) -> PhaseSpec:
    """SPEC with other fields; `training__seed` is a field of a field."""
    spec = SPEC
    for path, value in changes.items():
        owner, _, key = path.rpartition("__")
        spec = replace(spec, **{owner: replace(getattr(spec, owner), **{key: value})} if owner else {key: value})
    return spec


@pytest.mark.parametrize(
    "changes",
    [
        {"unfreeze_rank_ratio": 0.2},
        {"method": "sft"},
        {"data": "/run/data/abd"},
        {"osft__subspace": "activations"},
        {"osft__target_patterns": [".*q_proj"]},
        {"osft__save_bases": False},
        {"model__attn_implementation": "eager"},
        {"training__seed": 1},
        {"training__learning_rate": 1e-4},
        {"training__num_epochs": 3},
        {"training__lr_scheduler_kwargs": {"num_cycles": 2}},
        {"training__train_dtype": Precision.float32},
        {"training__save_dtype": Precision.float32},
        {"osft__train_others": True},
        {"osft__rank_allocation": RankAllocation.layer_importance},
        {"training__use_liger": True},
        {"distributed__deepspeed": {"zero_optimization": {"reduce_scatter": False}}},
        {"model__trust_remote_code": True},
        {"preserve": PreserveSpec(record=None, samples="/run/data/kept", max_tokens=10)},
        {"method_settings": {"rank": 8}},
        {"added_stop_tokens": [2]},
    ],
    ids=str,
)
def test_what_decides_the_result_is_in_it(changes: dict[str, Any]) -> None:
    assert of_phase(changed(**changes), "parent") != of_phase(SPEC, "parent")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "facts"},
        {"index": 3},
        {"folder": "/elsewhere"},
        {"data": "/elsewhere/abc"},
        {"model__path": "/elsewhere/base"},
        {"distributed__nproc_per_node": 2},
        {"distributed__accelerator": Accelerator.cpu},
        {"distributed__rdzv_endpoint": "node:1"},
        {"distributed__exclusive_devices": False},
        {"distributed__offload": OffloadConfig(optimizer=True, bases=True)},
        {"training__max_tokens_per_gpu": 20000},
        {"training__activation_checkpointing": False},
        {"evaluation_sets": {"base": "/run/data/def"}},
        {"evaluate_before": True},
        {"callbacks": [CallbackConfig("my_module.Mine", {"limit": 3})]},
    ],
    ids=str,
)
def test_what_does_not_decide_the_result_is_not_in_it(changes: dict[str, Any]) -> None:
    assert of_phase(changed(**changes), "parent") == of_phase(SPEC, "parent")


def test_phases_that_stores_hold_keep_their_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "version", lambda package: "1.2.3")
    more = changed(
        osft=OsftConfig(subspace="activations", rank_allocation=RankAllocation.layer_importance),
        preserve=PreserveSpec(record=None, samples="/run/data/kept", max_tokens=10),
        validation=ValidationSpec(ValidationConfig(split=0.1), None, 16),
        evaluate_every_steps=5,
        evaluation_sets={"base": "/run/data/def"},
    )
    found = [of_phase(spec, "parent") for spec in (SPEC, more)]
    assert found == ["856877c30eb68236f2e9708ddb051681", "794b30e1820fd0300c714ac966b6be2f"]


def test_every_setting_of_the_training_is_in_it_but_for_what_changes_the_rounding() -> None:
    one = of_phase(SPEC, "parent")
    ignored = ignored_phase_keys(Use.PHASE)
    for field in fields(TrainingConfig):
        value = getattr(SPEC.training, field.name)
        other = next(iter(set(type(value)) - {value})) if isinstance(value, Enum) else None
        if other is None:
            other = {"other": 1} if isinstance(value, dict) else not value if isinstance(value, bool) else f"{value}1"
        found = of_phase(changed(**{f"training__{field.name}": other}), "parent")
        assert (found == one) is (field.name in ignored), field.name


def test_what_a_layer_of_no_importance_keeps_counts_where_layers_differ() -> None:
    differ = {"osft__rank_allocation": RankAllocation.layer_importance}
    one, other = (of_phase(changed(**differ, osft__minimum_retention=kept), "parent") for kept in (0.1, 0.2))
    assert one != other
    assert of_phase(changed(osft__minimum_retention=0.2), "parent") == of_phase(SPEC, "parent")


def test_the_parent_and_the_packages_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_phase(SPEC, "parent")
    assert of_phase(SPEC, "another") != before
    monkeypatch.setattr(fingerprint, "version", lambda package: "1.2.3+cpu")
    built_for_a_cpu = of_phase(SPEC, "parent")
    assert built_for_a_cpu != before
    monkeypatch.setattr(fingerprint, "version", lambda package: "1.2.3+cu130")
    assert of_phase(SPEC, "parent") == built_for_a_cpu
    monkeypatch.setattr(fingerprint, "TRAINING_VERSION", 99)
    assert of_phase(SPEC, "parent") != built_for_a_cpu


def test_what_is_kept_is_told_by_its_samples_or_by_the_parent() -> None:
    def kept(record: str | None, samples: str | None, max_tokens: int = 10) -> str:
        return of_phase(changed(preserve=PreserveSpec(record, samples, max_tokens)), "parent")

    assert kept(None, "/a/kept") == kept(None, "/b/kept") != kept(None, "/a/other")
    assert kept("/a/kept_inputs", None) == kept("/b/kept_inputs", None) != kept("/a/kept_inputs", None, max_tokens=11)


def test_a_curve_is_told_by_its_steps_and_sets() -> None:
    def curve(every_steps: int | None, **sets: str) -> str:
        return of_phase(changed(evaluate_every_steps=every_steps, evaluation_sets=sets), "parent")

    different = [curve(None, a="/data/x"), curve(5, a="/data/x"), curve(6, a="/data/x"), curve(5, a="/data/y")]
    assert len({*different, curve(5, b="/data/x")}) == 5
    assert curve(5, a="/elsewhere/x") == curve(5, a="/data/x")


def test_validation_is_told_by_its_settings_and_samples() -> None:
    def validation(
        samples: str | None = None, own_samples: int = 16, places: str | None = None, **settings: Any
    ) -> str:
        spec = ValidationSpec(ValidationConfig(**settings), samples, own_samples, places)
        return of_phase(changed(validation=spec), "parent")

    different = [
        of_phase(SPEC, "parent"),
        validation(split=0.1),
        validation(split=0.2),
        validation(split=0.1, own_samples=8),  # the others are replayed
        validation(split=0.1, every_steps=5),
        validation(split=0.1, every_epoch=True),
        validation(split=0.1, best=BestState.hand_on),
        validation("/data/x", path="x.jsonl"),
        validation("/data/y", path="x.jsonl"),
    ]
    assert len(set(different)) == len(different)
    assert validation(split=0.1, places="/run/split.npz") == validation(split=0.1, places="/elsewhere/split.npz")
    assert validation("/data/x", own_samples=8, path="x.jsonl") == validation("/data/x", path="x.jsonl")
    assert validation("/elsewhere/x", path="elsewhere.jsonl") == validation("/data/x", path="x.jsonl")


def test_sft_does_not_read_what_osft_is_told() -> None:
    sft = changed(method="sft", unfreeze_rank_ratio=None)
    assert of_phase(replace(sft, osft=OsftConfig(target_patterns=["x"])), "parent") == of_phase(sft, "parent")


def test_a_model_is_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("weights")
    two.write_text("weights")
    assert of_files({"model": one}) == of_files({"model": two}) != of_files({"other": one})
    two.write_text("weightz")
    assert of_files({"model": one}) != of_files({"model": two})


def test_digests_of_unchanged_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, known = tmp_path / "model", tmp_path / "store" / "digests.json"
    file.write_text("weights")
    monkeypatch.setattr(known_digests, "SETTLED_S", -1.0)
    first = of_files({"model": file}, known)
    monkeypatch.setattr(known_digests, "digest", lambda path: pytest.fail("read again"))
    assert of_files({"model": file}, known) == first
    monkeypatch.undo()
    file.write_text("weightz")  # of the same size
    os.utime(file, ns=(1, 1))
    assert of_files({"model": file}, known) != first
    known.write_text("{ damaged")
    assert of_files({"model": file}, known) == of_files({"model": file})


@pytest.fixture
def stored(tmp_path: Path) -> tuple[PhaseStore, Path]:
    """A store with one phase, and the folder of its entry."""
    store, phase = PhaseStore(tmp_path / "store"), tmp_path / "phase"
    for part in ("checkpoint", "best", "kept_inputs"):
        (phase / part).mkdir(parents=True)
        (phase / part / "config.json").write_text(part)
    (phase / "result.json").write_text("{}")
    return store, store.commit("f1a2b3c4" * 4, "knowledge", "base", phase, ["kept_inputs"]).folder


def test_the_checkpoint_and_the_best_state_of_a_phase_are_two_models(stored: tuple[PhaseStore, Path]) -> None:
    store, entry = stored
    found = {name: start_of(entry / name, store) for name in ("checkpoint", "best")}
    assert found["checkpoint"].fingerprint == entry.name
    assert found["best"].fingerprint != entry.name
    names = [file.name for file in found["best"].files]
    assert names == ["best/config.json", "kept_inputs/config.json"]


def test_a_manifest_outside_of_the_store_proves_nothing(stored: tuple[PhaseStore, Path], tmp_path: Path) -> None:
    store, entry = stored
    copy = shutil.copytree(entry, tmp_path / "phases" / entry.name)
    assert start_of(copy / "checkpoint", store).fingerprint != entry.name
    renamed = entry.rename(entry.with_name("0" * 32))
    assert start_of(renamed / "checkpoint", store).fingerprint not in (entry.name, renamed.name)


def test_a_change_in_place_is_seen_whatever_its_time_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "SETTLED_S", -1.0)
    file, known = tmp_path / "model", tmp_path / "digests.json"
    file.write_text("weights")
    first, before = of_files({"model": file}, known), file.stat()
    time.sleep(0.02)  # the file system counts time in steps
    file.write_text("weightz")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert of_files({"model": file}, known) != first


def test_where_bits_are_asked_for_what_changes_the_rounding_counts() -> None:
    exact = changed(training__deterministic=True)
    assert of_phase(exact, "parent") != of_phase(SPEC, "parent")
    others: list[dict[str, Any]] = [{"nproc_per_node": 2}, {"accelerator": Accelerator.cpu}]
    for change in (*others, {"offload": OffloadConfig(bases=True)}):
        other = replace(exact, distributed=replace(exact.distributed, **change))
        assert of_phase(other, "parent") != of_phase(exact, "parent")
