"""The store on real files: whole entries or none, damage found, locks that end with their owner."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from osftx.config.run_layout import save_folder
from osftx.store import entries
from osftx.store.__main__ import main
from osftx.store.entries import PhaseStore, use, verified
from osftx.utils import locks

FP, OTHER = "f1a2b3c4" * 4, "0123abcd" * 4
RESULT = {"name": "knowledge", "steps": 3, "tokens": 40, "duration_s": 1.5}


@pytest.fixture
def store(tmp_path: Path) -> PhaseStore:
    return PhaseStore(tmp_path / "store")


@pytest.fixture
def phase(tmp_path: Path) -> Path:
    """What a phase leaves behind."""
    folder = tmp_path / "run" / "phases" / "01_knowledge"
    kept = ("checkpoint/model.safetensors", "checkpoint/config.json", "best/config.json", "bases/a.safetensors")
    for name in (*kept, "logs/rank0.log"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    (folder / "result.json").write_text(json.dumps(RESULT))
    (folder / "metrics.jsonl").write_text("{}\n")
    (folder / "phase.yaml").write_text("name: knowledge")
    return folder


def test_what_is_committed_is_found_and_used(store: PhaseStore, phase: Path, tmp_path: Path) -> None:
    assert store.find("f1") is None
    store.commit("f1", "knowledge", "base", phase, ["bases"])
    entry = store.find("f1")
    assert entry is not None
    assert set(entry.manifest.files) == {
        "checkpoint/model.safetensors",
        "checkpoint/config.json",
        "best/config.json",
        "bases/a.safetensors",
        "result.json",
        "metrics.jsonl",
    }
    assert (entry.manifest.name, entry.manifest.parent) == ("knowledge", "base")
    other = tmp_path / "other_run" / "01_facts"
    for folder in (other, phase):  # another run, and the one that trained it
        use(entry, folder)
        assert (folder / "checkpoint").is_symlink()
        assert (folder / "best").is_symlink()
        assert (folder / "checkpoint" / "config.json").read_text() == "content of checkpoint/config.json"
        assert json.loads((folder / "result.json").read_text()) == RESULT
        assert verified((folder / "checkpoint").resolve().parent) is not None
    (phase / "result.json").write_text("{}")
    assert not list(store.find("f1").problems())  # a run goes on writing to its own copy


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "manifest"])
def test_a_damaged_entry_is_set_aside(
    store: PhaseStore, phase: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = store.commit("f1", "knowledge", "base", phase, ["bases"])
    weights = entry.folder / "checkpoint" / "model.safetensors"
    content = weights.read_bytes()
    match damage:
        case "flip":
            weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "truncate":
            weights.write_bytes(content[:-1])
        case "remove":
            weights.unlink()
        case "add":
            (entry.folder / "checkpoint" / "adapter.safetensors").write_text("")
        case "manifest":
            (entry.folder / "manifest.json").write_text('{"fingerprint"')
    assert verified(entry.folder) is None
    assert store.find("f1") is None
    assert "is damaged" in capsys.readouterr().out
    assert [path.name.partition("-")[0] for path in store.phases.iterdir()] == ["f1.damaged"]
    assert store.find("f1") is None
    assert "damaged" not in capsys.readouterr().out


def test_an_entry_of_another_format_is_not_used(
    store: PhaseStore, phase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit("f1", "knowledge", "base", phase, ["bases"])
    monkeypatch.setattr(entries, "FORMAT", 2)
    assert store.entries() == []
    assert store.find("f1") is None
    assert (store.phases / "f1").is_dir()  # another version of osftx may still use it


def test_a_full_disk_leaves_no_half_entry(store: PhaseStore, phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        if "bases" in str(source):
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(entries, "link_or_copy", full)
    with pytest.raises(OSError, match="No space left"):
        store.commit("f1", "knowledge", "base", phase, ["bases"])
    assert list(store.phases.iterdir()) == []
    assert (phase / "checkpoint" / "model.safetensors").exists()


def test_another_file_system_is_copied_to(store: PhaseStore, phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    store.commit("f1", "knowledge", "base", phase, ["bases"])
    assert store.find("f1") is not None


def test_evaluations_are_remembered_by_model_and_data(store: PhaseStore) -> None:
    assert store.evaluation("f1", "d1") is None
    store.keep_evaluations("f1", {"base": "d1", "skills": "d2"}, {"base": {"loss": 0.5}, "skills": {"loss": 0.7}})
    assert store.evaluation("f1", "d1") == {"loss": 0.5}
    assert store.evaluation("f1", "d2") == {"loss": 0.7}
    assert store.evaluation("f2", "d1") is None


HOLD = """
import sys, time
from pathlib import Path
from osftx.store.entries import PhaseStore
with PhaseStore(Path(sys.argv[1])).lock("f1"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_waited_for_and_ends_with_its_owner(
    store: PhaseStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WAIT_TOLD_AFTER_S", 0.1)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store.folder)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with store.lock("f2"):
            pass  # another phase
        killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({owner.pid}, 9)"])
        begun = time.monotonic()
        with store.lock("f1"):
            assert 0.5 < time.monotonic() - begun < 30
        killer.wait()
    assert "another run is training this phase" in capsys.readouterr().out


def test_managing_the_store(store: PhaseStore, phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--store-dir", str(store.folder)]
    assert main([*chosen, "list"]) == 2
    assert "no phase store here" in capsys.readouterr().err
    entry = store.commit(FP, "knowledge", "base", phase, ["bases"])
    assert main([*chosen, "list"]) == 0
    assert FP[:12] in capsys.readouterr().out
    assert main([*chosen, "show", "f1"]) == 0
    shown = capsys.readouterr().out
    assert "3 steps, 40 tokens" in shown
    assert "checkpoint/model.safetensors" in shown
    assert main([*chosen, "show", "e"]) == 2
    assert main([*chosen, "verify"]) == 0
    (entry.folder / "checkpoint" / "config.json").write_text("x")
    assert main([*chosen, "verify"]) == 1
    assert "checkpoint/config.json has 1 bytes" in capsys.readouterr().out
    assert store.find(FP) is None  # sets it aside
    (store.phases / f"{OTHER}.partial-0123abcd").mkdir()
    (store.phases / "README").write_text("not ours")
    with store.lock(OTHER):
        assert main([*chosen, "prune"]) == 0
        assert sorted(path.name for path in store.phases.iterdir()) == [
            f"{OTHER}.partial-0123abcd",
            "README",
        ]
    assert main([*chosen, "prune"]) == 0
    assert [path.name for path in store.phases.iterdir()] == ["README"]
    store.commit(FP, "knowledge", "base", phase, ["bases"])
    assert main([*chosen, "prune"]) == 0
    assert store.find(FP) is not None
    (store.phases / FP / "manifest.json").write_text("{")
    assert main([*chosen, "verify"]) == 1
    capsys.readouterr()
    assert main([*chosen, "list"]) == 0
    assert f"damaged: {FP[:12]}, manifest.json cannot be read" in capsys.readouterr().out
    assert main([*chosen, "prune", "--all"]) == 0
    assert [path.name for path in store.phases.iterdir()] == ["README"]


def test_unfinished_phases_are_listed_and_pruned(
    store: PhaseStore, phase: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--store-dir", str(store.folder)]
    for fingerprint in (FP, OTHER):
        room = store.make_room(fingerprint)
        assert room is not None
    save_folder(room, 120).mkdir()
    store.eigenvectors.mkdir()
    assert main([*chosen, "list"]) == 0
    shown = capsys.readouterr().out
    assert f"unfinished: {FP[:12]}, not saved yet" in shown
    assert f"unfinished: {OTHER[:12]}, saved after step 120" in shown
    assert main([*chosen, "prune"]) == 0
    assert [path.name for path in store.unfinished.iterdir()] == [OTHER]  # it can go on
    shown = capsys.readouterr().out
    assert "removed 1, kept 0" in shown
    assert "1 unfinished, which the same commands go on with; prune --unfinished removes" in shown
    with store.lock(OTHER):  # in training
        assert main([*chosen, "prune", "--unfinished"]) == 0
    assert [path.name for path in store.unfinished.iterdir()] == [OTHER]
    assert main([*chosen, "prune", "--unfinished"]) == 0
    assert not list(store.unfinished.iterdir())
    assert store.make_room(OTHER) is not None
    assert store.eigenvectors.is_dir()
    store.commit(OTHER, "knowledge", "base", phase, ["bases"])
    store.clear_room(OTHER)
    assert not list(store.unfinished.iterdir())
    assert main([*chosen, "prune", "--all"]) == 0
    assert not store.eigenvectors.exists()


def test_a_clock_that_jumps_changes_nothing(store: PhaseStore, phase: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decided by the time: content counts."""
    monkeypatch.setattr(entries.time, "strftime", lambda _: "1970-01-01T00:00:00+0000")
    store.commit(FP, "knowledge", "base", phase, ["bases"])
    monkeypatch.setattr(entries.time, "strftime", lambda _: "2170-01-01T00:00:00+0000")
    store.commit(OTHER, "skills", FP, phase, ["bases"])
    for number, path in enumerate(store.folder.rglob("*")):
        jumped = 4102444800.0 * (number % 2)  # the year 2100, and 1970
        os.utime(path, (jumped, jumped))
    assert store.find(FP) is not None
    assert store.find(OTHER) is not None
    with store.lock(FP):
        pass
    with pytest.raises(OSError, match="not empty"):  # there already, whatever its age
        store.commit(FP, "knowledge", "base", phase, ["bases"])
    assert len(store.entries()) == 2


def test_damage_that_is_still_json_is_found(store: PhaseStore, phase: Path) -> None:
    for content in ("null", "[]", "{}", '{"loss": "low"}'):
        store.keep_evaluations("f1", {"base": "d1"}, {"base": {"loss": 0.5}})
        (file,) = (store.folder / "evaluations").iterdir()
        file.write_text(content)
        assert store.evaluation("f1", "d1") is None
    entry = store.commit(FP, "knowledge", "base", phase, ["bases"])
    whole = json.loads((entry.folder / "manifest.json").read_text())
    for files in (None, [], {"result.json": None}, {"result.json": {}}):
        (entry.folder / "manifest.json").write_text(json.dumps(whole | {"files": files}))
        assert entries.read_entry(entry.folder) is None
        assert main(["--store-dir", str(store.folder), "verify"]) == 1
    assert main(["--store-dir", str(store.folder), "list"]) == 0
    assert store.find(FP) is None
