"""What the timing of a phase leaves behind, with a stand-in for its ranks."""

from pathlib import Path

import pytest

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig, ModelConfig, OsftConfig, TrainingConfig
from osftx.errors import StoppedError, TrainingError
from osftx.launch.cluster import Cluster
from osftx.planning import calibration


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
