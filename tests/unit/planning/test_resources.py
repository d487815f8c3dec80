"""Does it fit, and is there room: told in the plan, and refused before anything is started."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import TINY_BASE

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import Accelerator, DataConfig, ExperimentConfig, ModelConfig, PhaseConfig, TrainingConfig
from osftx.errors import ConfigurationError
from osftx.planning.preflight import Checked, check
from osftx.planning.resources import check_room, lacking
from osftx.planning.show_plan import show_plan
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_phase, start_fingerprint

SAMPLE = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
MIB = 2**20


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    """Two phases of the tiny model, and GPUs that nobody can tell of."""
    monkeypatch.setattr("osftx.planning.resources.smallest_memory", lambda: None)
    (tmp_path / "facts.jsonl").write_text(json.dumps(SAMPLE) + "\n")
    config = ExperimentConfig(name="study", model=ModelConfig(path=str(TINY_BASE)))
    training = vars(TrainingConfig(max_tokens_per_gpu=8192, max_seq_len=32))
    data = DataConfig(path=str(tmp_path / "facts.jsonl"))
    config.phases = {name: PhaseConfig(data=data, **training) for name in ("one", "two")}
    config.store_dir, config.output_dir = str(tmp_path / "store"), str(tmp_path / "run")
    config.distributed.nproc_per_node = 2
    return config


def free(monkeypatch: pytest.MonkeyPatch, amount: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=amount))


def specs(checked: Checked) -> list[PhaseSpec]:
    """What the ranks of each phase would be told."""
    found = [phase.spec for phase in checked.plan.phases if phase.spec is not None]
    assert len(found) == len(checked.plan.phases)
    return found


def data_of_one(checked: Checked) -> Path:
    """Folder of the samples of phase one."""
    return Path(specs(checked)[0].data)


def test_the_plan_tells_memory_and_disk(config: ExperimentConfig, capsys: pytest.CaptureFixture[str]) -> None:
    plan = check(config, None).plan
    first, second = plan.to_dict()["phases"]
    assert first["memory"]["peak"] == first["memory"]["between_steps"] + first["memory"]["step"]["rise"]
    assert first["memory"]["between_steps"] == sum(first["memory"]["device"].values())
    assert first["memory"]["device"]["moments"] > second["memory"]["device"]["moments"], "its ratio is higher"
    assert first["disk"]["checkpoint"] == 2 * second["disk"]["checkpoint"] == 4 * 930_944  # handed on in float32
    show_plan(plan)
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert "MB" in rows["at the peak of a step"]
    assert "in host memory" not in rows
    config.distributed.offload.optimizer = True
    show_plan(check(config, None).plan)
    assert "│ in host memory" in capsys.readouterr().out


@pytest.mark.parametrize(("dtype", "times"), [("bfloat16", 1), ("float16", 2), ("float32", 2)])
def test_starting_weights_that_are_finer_than_bfloat16_are_held_in_fp32(
    config: ExperimentConfig, tmp_path: Path, dtype: str, times: int
) -> None:
    model = tmp_path / "model"
    shutil.copytree(TINY_BASE, model)
    settings = json.loads((model / "config.json").read_text())
    settings.pop("torch_dtype", None)
    (model / "config.json").write_text(json.dumps(settings | {"dtype": dtype}))
    config.model.path = str(model)
    first, second = (phase["memory"]["device"] for phase in check(config, None).plan.to_dict()["phases"])
    assert 2 * first["starting_weights"] == times * second["starting_weights"], "the second one starts from float32"


def test_a_gpu_that_is_too_small_is_told_with_what_would_help(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osftx.planning.resources.smallest_memory", lambda: 10**6)
    first, second = check(config, None).plan.warnings
    assert first.startswith("phase one: an estimated ")
    assert "the smallest GPU has 1.0 MB" in first
    assert "phases.one.max_tokens_per_gpu=4096" in first
    assert first.index("distributed.offload.bases=true") < first.index("4 ranks instead of 2")
    assert second.startswith("phase two:")
    monkeypatch.setattr("osftx.planning.resources.smallest_memory", lambda: 10**12)
    assert check(config, None).plan.warnings == []
    monkeypatch.setattr("osftx.planning.resources.smallest_memory", lambda: pytest.fail("no GPU is used"))
    config.distributed.accelerator = Accelerator.cpu
    assert check(config, None).plan.warnings == []


def test_a_dry_run_warns_of_a_disk_that_is_too_small(config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**6)
    (warning,) = check(config, None).plan.warnings
    assert warning.startswith(f"store_dir={config.store_dir}: the phases need an estimated ")
    assert "where 1.0 MB are free" in warning
    assert "osft.save_bases=false" in warning
    config.reuse = False
    (warning,) = check(config, None).plan.warnings
    assert warning.startswith(f"output_dir={config.output_dir}: ")


def test_a_run_without_room_is_refused_and_leaves_no_data(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    checked = check(config, run)
    check_room(config, checked, run)
    assert data_of_one(checked).is_dir()
    free(monkeypatch, 10**6)
    with pytest.raises(ConfigurationError, match=r"the phases need an estimated .* where 1\.0 MB are free"):
        check_room(config, checked, run)
    assert not (run / "data").exists()


def test_the_data_of_a_run_that_goes_on_stays(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.reuse = False
    check(config, tmp_path / "run")
    checked = check(config, tmp_path / "run")
    free(monkeypatch, 10**6)
    with pytest.raises(ConfigurationError, match="output_dir="):
        check_room(config, checked, tmp_path / "run")
    assert data_of_one(checked).is_dir()


def store_phases(config: ExperimentConfig, checked: Checked, count: int) -> None:
    """Make the first `count` phases look stored."""
    store = PhaseStore(Path(config.store_dir))
    assert checked.model_folder is not None
    parent = start_fingerprint(checked.model_folder, store)
    for spec in specs(checked)[:count]:
        parent = of_phase(spec, parent)
        (store.phases / parent).mkdir(parents=True)


def test_phases_of_the_store_need_no_room(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    checked = check(config, run)
    first, second = (phase.disk for phase in checked.plan.phases)
    assert first is not None
    assert second is not None
    free(monkeypatch, second.result + second.eigenvectors + second.while_training)
    store_phases(config, checked, 1)
    check_room(config, checked, run)
    shutil.rmtree(config.store_dir)
    with pytest.raises(ConfigurationError):
        check_room(config, checked, run)


def test_a_phase_that_goes_on_needs_no_room_for_what_it_has(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, has = tmp_path / "run", 3 * MIB
    checked = check(config, run)
    disks = [phase.disk for phase in checked.plan.phases if phase.disk is not None]
    needed = sum(disk.result + disk.eigenvectors for disk in disks) + max(disk.while_training for disk in disks)
    free(monkeypatch, needed - has)
    with pytest.raises(ConfigurationError):
        check_room(config, checked, run)
    store = PhaseStore(Path(config.store_dir))
    assert checked.model_folder is not None
    spec = specs(checked)[0]
    save = store.unfinished / of_phase(spec, start_fingerprint(checked.model_folder, store)) / "step_00000001"
    save.mkdir(parents=True)
    (save / "shard").write_bytes(bytes(has))
    checked = check(config, run)
    check_room(config, checked, run)


def test_a_store_that_cannot_be_written_needs_no_room(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(config.store_dir).mkdir()
    free(monkeypatch, 10**6)
    monkeypatch.setattr("osftx.planning.resources.os.access", lambda *_: False)
    assert [line.partition("=")[0] for line in lacking(config, check(config, None).plan.phases, None)] == ["output_dir"]


def test_a_store_is_marked_before_anything_is_kept_there(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = check(config, tmp_path / "run")
    free(monkeypatch, 0)
    with pytest.raises(ConfigurationError):
        check_room(config, checked, tmp_path / "run")
    assert (Path(config.store_dir) / "data").is_dir()
    assert PhaseStore(Path(config.store_dir)).exists()  # so that prune can tidy it


def test_a_dry_run_marks_no_store(config: ExperimentConfig) -> None:
    check(config, None)
    assert not Path(config.store_dir).exists()
