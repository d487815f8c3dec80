"""`phase.yaml` holds a phase whole: what is saved is what is loaded."""

import os
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from osftx.config.phase_spec import AskedSet, GenerationSpec, PhaseSpec, PreserveSpec, ResumeSpec, ValidationSpec
from osftx.config.schema import (
    Accelerator,
    BestState,
    CallbackConfig,
    CheckpointingConfig,
    DistributedConfig,
    GenerationConfig,
    ModelConfig,
    OffloadConfig,
    OsftConfig,
    Precision,
    RankAllocation,
    TrainingConfig,
    ValidationConfig,
)
from osftx.errors import ConfigurationError


def spec_in(folder: Path, method: str = "osft", ratio: float | None = 0.2) -> PhaseSpec:
    """No field has its default value, so one that is lost on the way shows."""
    return PhaseSpec(
        index=3,
        name="skills",
        method=method,
        unfreeze_rank_ratio=ratio,
        model=ModelConfig("/models/a: b #1", "main", "eager", True),
        training=TrainingConfig(
            num_epochs=7,
            effective_batch_size=9,
            max_seq_len=11,
            max_tokens_per_gpu=13,
            learning_rate=3e-7,
            lr_scheduler="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.1, "nested": {"list": [1, None, "yes"]}},
            warmup_steps=2,
            beta1=0.8,
            beta2=0.9,
            eps=1e-12,
            weight_decay=0.5,
            max_grad_norm=0.25,
            seed=1,
            use_liger=False,
            activation_checkpointing=False,
            train_dtype=Precision.float32,
            save_dtype=Precision.float32,
            hand_on_dtype=Precision.bfloat16,
            deterministic=True,
        ),
        osft=OsftConfig(
            *("activations", RankAllocation.layer_importance, 0.3, True, [r".*\.(?:q|k)_proj", "null"]),
            save_bases=False,
        ),
        distributed=DistributedConfig(
            *(3, 2, 1, 48, "node:1", 120, Accelerator.cpu, False, 4, OffloadConfig(optimizer=True, bases=True), 60),
            {"zero_optimization": {"overlap_comm": True}},
        ),
        data="/data/sämple",
        folder=str(folder),
        preserve=PreserveSpec(record=None, samples="/data/sämple", max_tokens=19),
        validation=ValidationSpec(
            ValidationConfig(0.1, "v.jsonl", 3, True, False, BestState.hand_on), "/data/v", 23, "/run/split.npz"
        ),
        resume=ResumeSpec("/store/unfinished/a", "/store/eigenvectors", CheckpointingConfig(None, 5, 1, 60)),
        evaluation_sets={"base": "/sets/base", "1e3": "/sets/1e3"},
        sets_to_keep=["1e3"],
        evaluation_max_tokens=17,
        method_settings={"rank": 8, "names": ["a", None], "nested": {"scale": 0.5}},
        evaluate_every_steps=29,
        evaluate_before=True,
        evaluate_only=True,
        generation=GenerationSpec(
            {"facts": AskedSet("/sets/facts", 7, [2, 3])},
            GenerationConfig(4, 0.5, 1),
            "/base",
            {"own": AskedSet("/sets/own", 5, [1])},
            "/answers.json",
        ),
        calibration_steps=4,
        callbacks=[CallbackConfig("my.module.Mine", {"a": [1, None], "b": {"c": "yes"}})],
    )


@pytest.mark.parametrize(("method", "ratio"), [("osft", 0.2), ("osft", 0.0), ("sft", None)])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, method: str, ratio: float | None) -> None:
    spec = spec_in(tmp_path / "phases" / "04_skills", method, ratio)
    path = spec.save()
    assert path == tmp_path / "phases" / "04_skills" / "phase.yaml"
    loaded = PhaseSpec.load(path)
    assert loaded == spec
    for field in fields(PhaseSpec):
        assert field.default is MISSING or getattr(spec, field.name) != field.default, field.name
        assert type(getattr(loaded, field.name)) is type(getattr(spec, field.name)), field.name


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    spec_in(tmp_path).save()
    changed = spec_in(tmp_path, ratio=0.5)
    assert PhaseSpec.load(changed.save()) == changed


def test_a_hand_edited_file_is_checked(tmp_path: Path) -> None:
    """`phase.yaml` can be run again on its own, so its keys and types are those of the schema."""
    path = spec_in(tmp_path).save()
    content = OmegaConf.load(path)
    wrong = {"training.learning_rat": 1e-3, "training.num_epochs": "many", "training.save_dtype": "float64"}
    for key, value in wrong.items():
        edited = OmegaConf.merge(content, OmegaConf.from_dotlist([f"{key}={value}"]))
        OmegaConf.save(edited, tmp_path / "edited.yaml")
        with pytest.raises(OmegaConfBaseException, match=key.rpartition(".")[2]):
            PhaseSpec.load(tmp_path / "edited.yaml")


def test_the_checkpoint_is_in_the_phases_folder(tmp_path: Path) -> None:
    assert spec_in(tmp_path).checkpoint == tmp_path / "checkpoint"


def test_secrets_of_callbacks_and_methods_are_not_written_and_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    spec = spec_in(tmp_path)
    spec.distributed.nnodes = 1
    spec.callbacks = [CallbackConfig("mine.Mine", {"api_key": "one-secret", "urls": ["a://me:another@b"], "every": 5})]
    spec.method_settings = {"nested": {"token": "third-secret", "password": 87654321}, "auth": {"v": ["fourth-secret"]}}
    path = spec.save()
    text = path.read_text()
    assert not [word for word in ("one-secret", "another", "third-secret", "87654321", "fourth-secret") if word in text]
    assert PhaseSpec.load(path) == spec


def test_a_secret_that_would_have_to_reach_other_nodes_is_refused(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    spec.callbacks = [CallbackConfig("mine.Mine", {"api_key": "one-secret"})]
    with pytest.raises(ConfigurationError, match="is not sent to other nodes; let the class read it") as raised:
        spec.save()
    assert "one-secret" not in str(raised.value)
