"""The start model must still be the one that the fingerprint was computed from."""

from pathlib import Path

import pytest
from phases import make_phase

from osftx.config.phase_spec import PhaseSpec
from osftx.store.fingerprint import start_of
from osftx.utils import known_digests
from osftx.worker.start_model import check_start


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PhaseSpec:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_text("weights")
    spec = make_phase(tmp_path / "phase", model, tmp_path / "samples")
    spec.start_files = start_of(model, None).files
    spec.save()
    return PhaseSpec.load(Path(spec.folder) / "phase.yaml")  # as the ranks read it


def test_a_model_that_was_left_alone_passes(spec: PhaseSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    check_start(spec)
    monkeypatch.setattr(known_digests, "SETTLED_S", -1.0)
    spec.start_files = start_of(Path(spec.model.path), None).files
    monkeypatch.setattr(known_digests, "digest", lambda path: pytest.fail("read again"))
    check_start(spec)


def test_a_model_that_was_swapped_ends_the_phase(spec: PhaseSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Path(spec.model.path) / "model.safetensors"
    weights.write_text("weightz")
    with pytest.raises(ValueError, match=r"model\.safetensors: was changed after this phase was planned; nothing is"):
        check_start(spec)
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_start(spec)  # another rank looks
    monkeypatch.setenv("LOCAL_RANK", "0")
    weights.unlink()
    with pytest.raises(ValueError, match=r"cannot be read again \(No such file"):
        check_start(spec)
    weights.write_text("weights")  # put back
    check_start(spec)
