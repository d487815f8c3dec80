"""What the timing of a run starts, counts and leaves behind, with a stand-in for the ranks."""

import json
from pathlib import Path

import pytest
from checkout import TINY_BASE

from osftx.config.phase_spec import PhaseSpec, PreserveSpec
from osftx.config.schema import (
    DataConfig,
    DistributedConfig,
    ExperimentConfig,
    ModelConfig,
    OsftConfig,
    PhaseConfig,
    TrainingConfig,
    ValidationConfig,
)
from osftx.errors import StoppedError, TrainingError
from osftx.launch.cluster import Cluster
from osftx.planning import calibration
from osftx.planning.calibration import STEPS, calibrate
from osftx.planning.preflight import check
from osftx.training.batches import open_samples


def phase(folder: Path) -> PhaseSpec:
    return PhaseSpec(
        index=0,
        name="skills",
        method="sft",
        unfreeze_rank_ratio=None,
        model=ModelConfig(path="base"),
        training=TrainingConfig(),
        osft=OsftConfig(),
        distributed=DistributedConfig(),
        data="data",
        folder=str(folder),
        evaluation_max_tokens=64,
    )


class Fails(Cluster):
    """Its ranks leave a log and fail."""

    def launch(self, spec: PhaseSpec) -> None:
        log = Path(spec.folder) / "logs" / "0" / "stderr.log"
        log.parent.mkdir(parents=True)
        log.write_text("out of memory")
        raise TrainingError(f"phase 'skills' failed on rank 0\n  full log: {log}")


class Stopped(Cluster):
    """Its ranks are stopped by a signal."""

    def launch(self, spec: PhaseSpec) -> None:
        raise StoppedError(f"phase {spec.name!r} was stopped by SIGTERM; nothing of it was saved")


def test_the_log_that_a_failure_names_outlives_the_timing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "mkdtemp", lambda prefix: str(tmp_path / "kept"))
    with pytest.raises(TrainingError, match=r"^phase 'skills' failed on rank 0\s+full log: ") as raised:
        calibration._launch(phase(tmp_path / "scratch"), Fails())
    log = Path(str(raised.value).rpartition("full log: ")[2])
    assert log.is_relative_to(tmp_path / "kept")
    assert log.read_text() == "out of memory"


def test_nothing_is_kept_of_a_timing_that_was_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibration, "mkdtemp", lambda prefix: pytest.fail("nothing to keep"))
    with pytest.raises(StoppedError):
        calibration._launch(phase(tmp_path / "scratch"), Stopped())


class Times(Cluster):
    """Its ranks open their samples, and leave a pace."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: list[PhaseSpec] = []
        self.samples: list[tuple[int, int]] = []
        """Of each phase: trained on, validated on."""

    def launch(self, spec: PhaseSpec) -> None:
        folder = Path(spec.folder)
        assert PhaseSpec.load(folder / "phase.yaml") == spec
        assert list(folder.parent.iterdir()) == [folder], "one phase at a time"
        trained, held_out = open_samples(spec)
        self.specs.append(spec)
        self.samples.append((len(trained), len(held_out or ())))
        pace = {"start_s": 2.0, "training_s_per_token": 0.5, "forward_s_per_token": 0.25, "saving_s": 1.0}
        (folder / "result.json").write_text(json.dumps(pace | {"duration_s": 0.0}))


def data(path: Path, answers: str) -> DataConfig:
    turns = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return DataConfig(path=str(path))


def test_every_phase_is_begun_from_the_start_model_and_nothing_is_kept(tmp_path: Path) -> None:
    """What must be kept is measured anew for each. The ranks of a phase that holds samples out find their places."""
    config = ExperimentConfig(name="study", model=ModelConfig(path=str(TINY_BASE)), store_dir=str(tmp_path / "store"))
    training = vars(TrainingConfig(num_epochs=3, effective_batch_size=4))
    for name, answers in (("facts", "abcdefgh"), ("plain", "ijklmnop"), ("skills", "qrstuvwx")):
        config.phases[name] = PhaseConfig(data=data(tmp_path / f"{name}.jsonl", answers), **training)
    config.phases["plain"].method = "sft"
    config.phases["skills"].validation = ValidationConfig(split=0.25)
    config.osft.subspace, config.preserve.data = "activations", data(tmp_path / "kept.jsonl", 40 * "yz")
    (run := tmp_path / "run").mkdir()
    checked, cluster = check(config, run), Times()
    durations = calibrate(config, checked, cluster)
    assert [spec.name for spec in cluster.specs] == ["facts", "plain", "skills"]
    assert cluster.samples == [(8, 0), (8, 0), (6, 2)]
    assert {spec.model.path for spec in cluster.specs} == {str(TINY_BASE)}
    assert {(spec.calibration_steps, spec.evaluate_before) for spec in cluster.specs} == {(STEPS, False)}
    first, plain, last = (spec.preserve for spec in cluster.specs)
    assert isinstance(first, PreserveSpec)
    assert (first.record, plain, last) == (None, None, first)
    tokens = [phase.tokens for phase in checked.plan.phases]
    assert [duration.training for duration in durations] == [0.5 * 3 * count for count in tokens]
    assert [duration.saving for duration in durations] == 3 * [1.0]
    # Without evaluation sets: what is validated, and what the phase's own samples add to what must be kept.
    held_out = 2 * tokens[2] // 6
    assert [duration.measuring for duration in durations] == [
        0.25 * count for count in (2 * tokens[0], 0, 2 * tokens[2] + held_out)
    ]
    assert list(run.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["run", "store"]
