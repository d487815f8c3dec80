"""The folder of a run."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from osftx.cli.run import _run_settings
from osftx.config.schema import ExperimentConfig
from osftx.errors import ConfigurationError
from osftx.runs.run_folder import dated, make_run_folder


def test_runs_that_start_in_the_same_second_get_a_folder_each(tmp_path: Path) -> None:
    folders = []
    for _ in range(3):
        folders.append(dated(tmp_path / "outputs"))
        folders[-1].mkdir(parents=True)
    assert len(set(folders)) == 3
    assert all(folder.parent == tmp_path / "outputs" for folder in folders)


def test_a_run_goes_on_wherever_its_nodes_meet_and_whether_it_is_timed_or_not(tmp_path: Path) -> None:
    config = ExperimentConfig(output_dir=str(tmp_path))
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(
        "{training: {seed: 1}, distributed: {nnodes: 2, rdzv_endpoint: a:1}, plan: {calibrate: true}}"
    )
    asked = "{training: {seed: SEED}, distributed: {nnodes: 2, rdzv_endpoint: b:2}, plan: {calibrate: false}}"
    assert make_run_folder(config, tmp_path, asked.replace("SEED", "1")) == (tmp_path.resolve(), [])
    dry = asked.replace("{training", "{dry_run: true, training").replace("SEED", "1")
    assert make_run_folder(config, tmp_path, dry) == (tmp_path.resolve(), [])
    with pytest.raises(ConfigurationError, match="holds a run with another configuration"):
        make_run_folder(config, tmp_path, asked.replace("SEED", "2"))


def test_a_folder_that_holds_other_things_is_refused(tmp_path: Path) -> None:
    config = ExperimentConfig(output_dir=str(tmp_path))
    for left in (
        ".lock",
        "output.log",
        "plan.json.0123abcd.partial",
        ".osftx-calibration-x",
    ):  # by a run that was refused or killed
        (tmp_path / left).write_text("")
    (tmp_path / "data").mkdir()
    assert make_run_folder(config, tmp_path, "{}") == (tmp_path.resolve(), [])
    for mine in ("phases", "results.json", ".git", "thesis.tex"):
        (tmp_path / mine).mkdir()
        with pytest.raises(ConfigurationError, match=f"holds {mine}, which is no part of a run; choose a new"):
            make_run_folder(config, tmp_path, "{}")
        (tmp_path / mine).rmdir()


def test_a_run_with_other_secrets_is_another_run(tmp_path: Path) -> None:
    config = ExperimentConfig(output_dir=str(tmp_path))
    (tmp_path / "plan.json").write_text("{}")
    texts = [_run_settings(OmegaConf.create({"callbacks": [{"settings": {"token": word}}]})) for word in ("one", "two")]
    assert all("***" in text and "one" not in text for text in texts)
    (tmp_path / "config.yaml").write_text(texts[0])
    assert make_run_folder(config, tmp_path, texts[0]) == (tmp_path.resolve(), [])
    with pytest.raises(ConfigurationError, match="holds a run with another configuration"):
        make_run_folder(config, tmp_path, texts[1])
