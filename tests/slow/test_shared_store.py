"""A phase store with several users: runs at the same time, and runs that must not write into it."""

import ctypes
import shutil
import subprocess

import pytest
from stored_runs import ROOT, Runs, reused


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def test_two_runs_at_once_train_a_phase_once(runs: Runs) -> None:
    names = ("left", "right")
    started = [
        subprocess.Popen(
            runs.command(name, "~phases.skills", "distributed.nproc_per_node=1"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in names
    ]
    shown = [process.communicate(timeout=500)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], shown
    first_phase = [reused(runs.results(name))[0] for name in names]
    assert sorted(first_phase) == [False, True]
    assert sum("another run is training this phase" in output for output in shown) == 1
    assert runs.weights("left", "01_knowledge") == runs.weights("right", "01_knowledge")


def test_a_store_that_can_only_be_read_is_read(runs: Runs) -> None:
    runs("first")
    store = runs.folder / "read_only"
    shutil.copytree(runs.store, store)
    for path in (store, *store.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    done = subprocess.run(
        runs.command("reads", f"store_dir={store}", "phases.skills.learning_rate=2e-3"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        preexec_fn=_without_superpowers,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert reused(runs.results("reads")) == [True, False]
    assert f"the phase could not be kept in store_dir={store} (Permission denied)" in done.stdout
    assert not (runs.folder / "reads" / "phases" / "02_skills" / "checkpoint").is_symlink()
    assert runs.weights("reads") != runs.weights("first")


def _without_superpowers() -> None:
    """Root, too, may then only write what its permissions say (CAP_DAC_OVERRIDE leaves the bounding set at exec)."""
    ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP; refused to others, who have no need of it
