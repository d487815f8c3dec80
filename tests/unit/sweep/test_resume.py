"""Which sweeps can be resumed."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from osftx.sweep.resume import mask_settings, why_not_resumed


def _sweep(password: str) -> DictConfig:
    words = [f"callbacks.0.password={password}", "training.seed=1,2"]
    hydra = {"overrides": {"task": words, "hydra": []}, "sweeper": {"_target_": "x", "params": None}}
    return OmegaConf.create({"hydra": hydra, "callbacks": [{"password": password}]})


@pytest.mark.parametrize("begun", [True, False])
def test_a_sweep_with_other_secrets_is_not_resumed(begun: bool, tmp_path: Path) -> None:
    saved = tmp_path / "multirun.yaml"
    saved.write_text(OmegaConf.to_yaml(_sweep("first one&x")))
    if begun:
        mask_settings(tmp_path)
        mask_settings(tmp_path)  # each job does
        assert "first" not in saved.read_text()
        assert "one&x" not in saved.read_text()
    assert why_not_resumed(_sweep("first one&x"), tmp_path) is None
    assert "other secrets" in str(why_not_resumed(_sweep("second one&x"), tmp_path))
