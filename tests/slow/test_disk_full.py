"""A disk that is full at each moment of a run: what is told, what is left, and that the same command goes on."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

SHORT = (
    "+experiment=tiny_two_phase",
    "~phases.skills",
    "~evaluation",
    "osft.save_bases=false",
    "distributed.nproc_per_node=1",
    "training.warmup_steps=0",
)
BYTES = 48 * 2**20
LEFT = 64 * 2**10
"""Bytes that are left on the full disk: too few for a checkpoint."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, where root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def start(folder: Path, *overrides: str, file_limit: int | None = None) -> subprocess.Popen[str]:
    own = (f"output_dir={folder / 'run'}", f"store_dir={folder / 'store'}")
    limit = None if file_limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    return subprocess.Popen(
        [sys.executable, "-m", "osftx", *SHORT, *own, *overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit,  # noqa: PLW1509  # one thread
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def fill(disk: Path, left: int = LEFT) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - left)))
    return filler


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    deadline = time.monotonic() + 180
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_told(output: str, *words: str) -> None:
    assert "Traceback" not in output, output
    complaint = output.rpartition("osftx: ")[2]
    for word in words:
        assert word in complaint, output


def assert_nothing_partial(folder: Path) -> None:
    assert [path for path in folder.rglob("*.partial")] == []


def assert_goes_on(folder: Path, *overrides: str) -> None:
    code, output = ended(start(folder, *overrides))
    assert code == 0, output
    assert (folder / "run/phases/01_knowledge/checkpoint/model.safetensors").is_file()
    assert_nothing_partial(folder)


@pytest.mark.parametrize("left", [LEFT, 0], ids=["nearly", "wholly"])
def test_a_disk_that_fills_up_while_a_phase_trains(disk: Path, left: int) -> None:
    """First the saves fail, then the checkpoint, or with no byte left the metrics."""
    settings = ("phases.knowledge.num_epochs=8", "checkpointing.every_steps=4")
    process = start(disk, *settings)
    wait_for(process, disk / "run/phases/01_knowledge/metrics.jsonl")
    filler = fill(disk, left)
    code, output = ended(process)
    assert code == 1, output
    assert_told(output, "phase 'knowledge'", str(disk / "run"), "No space left on device", "make room there")
    assert "give the same command again" in output
    assert_nothing_partial(disk)
    filler.unlink()
    assert_goes_on(disk, *settings)


def test_a_file_that_may_not_grow_so_large(tmp_path: Path) -> None:
    """As with a quota: safetensors' own error says it."""
    code, output = ended(start(tmp_path, "phases.knowledge.num_epochs=1", file_limit=2**20))
    assert code == 1, output
    assert_told(output, "phase 'knowledge'", str(tmp_path / "run"), "File too large", "make room there")
    assert_nothing_partial(tmp_path)
    assert_goes_on(tmp_path, "phases.knowledge.num_epochs=1")


def test_a_disk_that_is_full_before_the_start(disk: Path) -> None:
    filler = fill(disk, 0)
    code, output = ended(start(disk, "phases.knowledge.num_epochs=1"))
    assert code in (1, 2), output
    assert_told(output, str(disk))
    assert "No space left on device" in output or "free" in output
    assert_nothing_partial(disk)
    filler.unlink()
    assert_goes_on(disk, "phases.knowledge.num_epochs=1")


def test_a_disk_that_is_read_only_before_the_start(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, output = ended(start(disk, "phases.knowledge.num_epochs=1"))
    assert code == 2, output
    assert_told(output, str(disk / "run"), "Read-only file system")
