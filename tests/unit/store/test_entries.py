"""The store on real files: whole entries or none, damage found, locks that end with their owner."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_model import make_samples

from osftx.config.run_layout import save_folder
from osftx.data.samples import DataSummary, write_index
from osftx.store import entries
from osftx.store.__main__ import main
from osftx.store.entries import MARKER, PhaseStore, use, verified
from osftx.utils import locks
from osftx.utils.known_digests import state_of
from osftx.utils.manifest import begin, digest, seal

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


def test_what_cannot_be_read_is_not_damaged(
    store: PhaseStore, phase: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a colleague's: it stays, and the phase is trained anew."""
    entry = store.commit(FP, "knowledge", "base", phase, ["bases"])
    opened = Path.open
    forbidden: list[str] = []

    def refused(path: Path, *arguments: Any, **settings: Any) -> Any:
        if path.name in forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refused)
    for name in ("manifest.json", "model.safetensors", "metrics.jsonl"):
        forbidden[:] = [name]
        assert store.find(FP) is None
        shown = capsys.readouterr().out
        assert shown.count("warning") == 1
        assert f"{name}: Permission denied); it stays as it is" in shown
    forbidden.clear()
    assert store.find(FP) == entry


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EACCES, errno.EROFS])
def test_a_lock_that_cannot_be_had_is_told_once(
    store: PhaseStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    with store.lock(FP) as held:
        assert held
    monkeypatch.setattr(entries, "waiting_lock", fail)
    for fingerprint in (FP, OTHER):
        with store.lock(fingerprint) as held:
            assert not held
    shown = capsys.readouterr().out
    assert shown.count("warning") == 1
    assert f"{FP}.lock cannot be locked ({os.strerror(error)})" in shown


def test_modes_follow_the_umask_and_the_group_of_the_store(store: PhaseStore, phase: Path) -> None:
    store.folder.mkdir()
    if os.geteuid() == 0:  # who may give a file to any group
        os.chown(store.folder, -1, 4242)
    store.folder.chmod(0o2770)
    before = os.umask(0o007)
    try:
        for path in phase.rglob("*"):
            path.chmod(0o770 if path.is_dir() else 0o660)
        with store.lock(FP):
            store.make_room(FP)
            store.commit(FP, "knowledge", "base", phase, ["bases"])
        store.keep_evaluations(FP, {"base": OTHER}, {"base": {"loss": 0.5}})
    finally:
        os.umask(before)
    found = list(store.folder.rglob("*"))
    assert store.unfinished / FP in found
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o2770 if path.is_dir() else 0o660), path
        assert path.stat().st_gid == store.folder.stat().st_gid, path


def test_prune_touches_no_folder_that_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("phases/mine/a", "unfinished/thesis/a", "evaluations/a.json", "benchmarks/a", "eigenvectors/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = set(tmp_path.rglob("*"))
    for command in (["prune"], ["prune", "--unfinished"], ["prune", "--all"], ["list"], ["verify"]):
        assert main(["--store-dir", str(tmp_path), *command]) == 2
        assert "no phase store here" in capsys.readouterr().err
    PhaseStore(tmp_path).claim()  # someone's store_dir: only what is named as the store names it goes
    assert main(["--store-dir", str(tmp_path), "prune", "--all"]) == 0
    assert set(tmp_path.rglob("*")) == before | {tmp_path / MARKER}


def test_a_store_of_an_earlier_version_is_one_without_a_mark(store: PhaseStore, phase: Path) -> None:
    store.commit(FP, "knowledge", "base", phase, ["bases"])
    store.marker.unlink()
    assert main(["--store-dir", str(store.folder), "verify"]) == 0
    assert main(["--store-dir", str(store.folder), "prune", "--all"]) == 0
    assert not list(store.phases.iterdir())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 7}, "it is of version 7 of the store, not 1"),
        ({"fingerprint": OTHER}, f"it is the entry of {OTHER}"),
        ({"files": {}}, "manifest.json is incomplete"),
        (None, "manifest.json cannot be read"),
    ],
)
def test_verify_tells_of_manifests_that_say_nothing(
    store: PhaseStore, phase: Path, change: dict[str, Any] | None, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = store.commit(FP, "knowledge", "base", phase, ["bases"]).folder / "manifest.json"
    file.write_text("" if change is None else json.dumps(json.loads(file.read_text()) | change))
    assert main(["--store-dir", str(store.folder), "verify"]) == 1
    assert f"{FP[:12]}: {problem}" in capsys.readouterr().out
    assert store.find(FP) is None


def test_verify_reads_everything(store: PhaseStore, phase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--store-dir", str(store.folder), "verify"]
    store.commit(FP, "knowledge", "base", phase, ["bases"])
    room = store.make_room(OTHER)
    assert room is not None
    (begin(save_folder(room, 2)) / "state.json").write_text("{}")
    seal(save_folder(room, 2))
    make_samples(store.data / "abc", 4)
    write_index(store.data / "abc", DataSummary("a.jsonl", samples=4), np.ones(4), np.ones(4))
    place, vectors = store.eigenvectors / f"{FP}.safetensors", np.eye(3)
    place.parent.mkdir()
    save_file(
        {"vectors": vectors}, place, {"sha256": hashlib.sha256(vectors.tobytes()).hexdigest(), "name": place.name}
    )
    store.keep_evaluations(FP, {"base": OTHER}, {"base": {"loss": 0.5}})
    store.keep_benchmark(FP, OTHER, {"metric": "acc", "value": 0.5, "details": {}})
    assert main(chosen) == 0
    assert capsys.readouterr().out.count("as it was written") == 6
    score = f"{FP}-{OTHER}.json"
    damage = [
        (save_folder(room, 2) / "state.json", b"{}", b"[]", "state.json has another content"),
        (store.data / "abc" / "samples.arrow", None, None, "samples.arrow has another content"),
        (store.data / "abc" / "index.npy", None, None, "index.npy has another content"),
        (store.data / "abc" / "summary.json", b'"samples": 4', b'"samples": 3', "summary.json has another content"),
        (place, None, None, "has another content"),
        (store.evaluations / score, b"0.5", b"0.6", "is not what was written under this name"),
        (store.benchmarks / score, b"0.5", b"0.6", "is not what was written under this name"),
    ]
    for path, old, new, problem in damage:
        whole = path.read_bytes()
        middle = len(whole) - 16
        path.write_bytes(
            whole.replace(old, new)
            if old is not None and new is not None
            else whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
        )
        assert main(chosen) == 1, path
        assert problem in capsys.readouterr().out
        path.write_bytes(whole)
    assert main(chosen) == 0
    model = store.folder / "model"
    model.write_text("weights")
    state = list(state_of(model))
    for known, problem in (({str(model): ["0" * 64, state]}, f"wrong digests of {model}"), ("{", "holds no digests")):
        store.known_digests.write_text(json.dumps(known))
        capsys.readouterr()
        assert main(chosen) == 1
        assert problem in capsys.readouterr().out
    store.known_digests.write_text(json.dumps({str(model): [digest(model), state]}))
    assert main(chosen) == 0
    for path in (place, store.evaluations / score):  # under another's name
        moved = path.rename(path.with_name(path.name.replace(FP, "0" * 32)))
        assert main(chosen) == 1
        assert store.evaluation("0" * 32, OTHER) is None
        moved.rename(path)


def test_saves_that_another_user_may_have_written_are_left_alone(
    store: PhaseStore, capsys: pytest.CaptureFixture[str]
) -> None:
    room = store.make_room(FP)
    assert room is not None
    assert stat.S_IMODE(room.stat().st_mode) & stat.S_IRWXO == 0
    save = save_folder(room, 3)
    save.mkdir()
    assert store.make_room(FP) == room
    assert capsys.readouterr().out == ""
    room.chmod(0o755)
    save.chmod(0o777)
    assert store.make_room(FP) is None
    shown = capsys.readouterr().out
    assert f"every user can write {save}" in shown
    assert "the phase begins anew and is not saved in between" in shown
    assert save.is_dir()


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"name": "\x1b]0;owned\x07"},
        {"created": None},
        {"parent": ["a"]},
        {"files": {"result.json": {"size": "9", "sha256": "x"}, "checkpoint/a": {"size": 1, "sha256": "x"}}},
        {"files": {"result.json": {"size": 9, "sha256": 3}, "checkpoint/a": {"size": 1, "sha256": "x"}}},
        {"files": [1]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_manifest_of_wrong_types_is_damage(
    store: PhaseStore, phase: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = store.commit(FP, "knowledge", "base", phase, ["bases"]).folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    chosen = ["--store-dir", str(store.folder)]
    assert [main([*chosen, *command]) for command in (["list"], ["verify"], ["show", FP])] == [0, 1, 2]
    assert "\x1b" not in capsys.readouterr().out
    assert store.find(FP) is None
