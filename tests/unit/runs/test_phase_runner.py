"""What a phase hands on to the next one."""

from pathlib import Path

import pytest
from phases import make_phase

from osftx.errors import TrainingError
from osftx.runs.phase_runner import handed_on
from osftx.store.entries import PhaseStore, use

FP = "f1a2b3c4" * 4


def test_a_checkpoint_that_is_no_longer_what_was_stored_is_not_gone_on_from(tmp_path: Path) -> None:
    store, phase = PhaseStore(tmp_path / "store"), tmp_path / "run" / "01_knowledge"
    for name in ("config.json", "model.safetensors"):
        (phase / "checkpoint" / name).parent.mkdir(parents=True, exist_ok=True)
        (phase / "checkpoint" / name).write_text(name)
    (phase / "result.json").write_text("{}")
    spec = make_phase(tmp_path / "run" / "02_skills", phase / "checkpoint", tmp_path / "samples")
    use(store.commit(FP, "knowledge", "base", phase), phase)
    files = {file.name: file.sha256 for file in handed_on(spec, FP, store)}
    entry = store.find(FP)
    assert entry is not None
    assert files == {name: file["sha256"] for name, file in entry.manifest.files.items() if "/" in name}
    (phase / "checkpoint" / "model.safetensors").write_text("swapped")
    with pytest.raises(TrainingError, match=r"model\.safetensors was changed after the phase before had left it"):
        handed_on(spec, FP, store)
    (phase / "checkpoint" / "model.safetensors").write_text("model.safetensors")
    (phase / "checkpoint" / "adapter_config.json").write_text("{}")  # transformers would read it
    with pytest.raises(TrainingError, match=r"adapter_config\.json was changed"):
        handed_on(spec, FP, store)
    assert handed_on(spec, "0" * 32, store)  # the phase before could not be stored
