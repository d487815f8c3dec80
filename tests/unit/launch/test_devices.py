"""Claims of devices between processes: nothing is shared, nothing is held in vain, a dead owner lets go."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from osftx.launch.devices import claimed, lock_folder, smallest_memory

# Claims, says what it got, and holds it until its input ends.
OWNER = """
import sys
from pathlib import Path
from osftx.launch.devices import claimed
devices, wanted, folder = sys.argv[1].split(","), int(sys.argv[2]), Path(sys.argv[3])
with claimed(devices, wanted, folder) as held:
    print("held", *held, flush=True)
    sys.stdin.read()
"""
# Many short claims at a time; every device in use has a file, which must not be there yet.
BUSY = """
import random, sys, time
from pathlib import Path
from osftx.launch import devices
devices.POLL_S = 0.005
names, folder, use = sys.argv[1].split(","), Path(sys.argv[2]), Path(sys.argv[3])
for _ in range(15):
    with devices.claimed(names, random.randint(1, len(names)), folder) as held:
        for name in held:
            (use / name).touch(exist_ok=False)
        time.sleep(random.random() / 100)
        for name in held:
            (use / name).unlink()
"""


class Owner:
    def __init__(self, folder: Path, devices: str, wanted: int):
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, devices, str(wanted), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


def free(folder: Path, devices: str) -> list[str]:
    """Those that can be had at once, each asked for alone."""
    program = "import sys; from pathlib import Path; from filelock import FileLock\n"
    program += "FileLock(Path(sys.argv[1]) / f'{sys.argv[2]}.lock').acquire(timeout=0)"
    return [
        device
        for device in devices.split(",")
        if subprocess.run([sys.executable, "-c", program, folder, device], capture_output=True, check=False).returncode
        == 0
    ]


def test_each_run_gets_the_first_devices_that_are_free(tmp_path: Path) -> None:
    first, second = Owner(tmp_path, "0,1,2", 1), None
    assert first.line() == "held 0"
    second = Owner(tmp_path, "0,1,2", 2)
    assert second.line() == "held 1 2"
    first.end()
    second.end()
    assert free(tmp_path, "0,1,2") == ["0", "1", "2"]


def test_too_few_are_waited_for_and_none_is_held_meanwhile(tmp_path: Path) -> None:
    first = Owner(tmp_path, "0,1", 1)
    assert first.line() == "held 0"
    both = Owner(tmp_path, "0,1", 2)
    assert both.line().startswith("waiting for 2 free of 2 GPUs: other runs hold them")
    assert free(tmp_path, "0,1") == ["1"]
    first.end()
    assert both.line() == "held 0 1"
    both.end()


def test_a_run_that_wants_many_is_not_overtaken_by_those_that_want_one(tmp_path: Path) -> None:
    first = Owner(tmp_path, "0,1", 1)
    assert first.line() == "held 0"
    both = Owner(tmp_path, "0,1", 2)
    assert both.line().startswith("waiting")
    one = Owner(tmp_path, "0,1", 1)
    assert one.line().startswith("waiting for 1 free of 2 GPUs")
    first.end()
    assert both.line() == "held 0 1"
    both.end()
    assert one.line() == "held 0"
    one.end()


def test_runs_that_see_other_devices_do_not_wait_for_each_other(tmp_path: Path) -> None:
    first = Owner(tmp_path, "0,1", 2)
    assert first.line() == "held 0 1"
    waiting = Owner(tmp_path, "0,1", 1)
    assert waiting.line().startswith("waiting")
    other = Owner(tmp_path, "1,2", 1)
    assert other.line() == "held 2"
    for owner in (other, first):
        owner.end()
    assert waiting.line() == "held 0"
    waiting.end()


@pytest.mark.parametrize("victim", ["holder", "waiting"])
def test_who_is_killed_lets_go(tmp_path: Path, victim: str) -> None:
    holder = Owner(tmp_path, "0", 1)
    assert holder.line() == "held 0"
    waiting, last = Owner(tmp_path, "0", 1), None
    assert waiting.line().startswith("waiting")
    last = Owner(tmp_path, "0", 1)
    assert last.line().startswith("waiting")
    killed = holder if victim == "holder" else waiting
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    if victim == "holder":
        assert waiting.line() == "held 0"
        waiting.end()
    else:
        holder.end()
    assert last.line() == "held 0"
    last.end()


def test_many_at_once_share_nothing_and_all_come_to_an_end(tmp_path: Path) -> None:
    use = tmp_path / "use"
    use.mkdir()
    command = [sys.executable, "-c", BUSY]
    sets = ("0,1,2", "0,1,2", "1,2,3", "3,0")
    started = [subprocess.Popen([*command, devices, str(tmp_path / "locks"), str(use)]) for devices in sets]
    end = time.monotonic() + 60
    assert [process.wait(timeout=end - time.monotonic()) for process in started] == [0] * len(sets)
    assert list(use.iterdir()) == []


def test_more_than_there_are_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 of 2 devices"), claimed(["0", "1"], 3, tmp_path):
        pass


def test_the_lock_folder_is_of_the_user_and_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert lock_folder() == tmp_path / f"osftx-{os.getuid()}" / "devices"
    with claimed(["GPU-1/a"], 1, lock_folder()) as held:
        assert held == ["GPU-1/a"]
        assert (lock_folder().stat().st_mode & 0o077) == 0


MIB = 2**20
SEEN = "0, GPU-aaaa, 81559\n1, GPU-bbbb, 24576\n2, GPU-cccc, [N/A]\n"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, 24576),
        ("0", 81559),
        ("GPU-aa", 81559),
        ("0, 1", 24576),
        ("2", None),
        ("", None),
        ("MIG-1234", None),
    ],
)
def test_the_smallest_gpu_that_may_be_used(
    visible: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(stdout=SEEN))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert smallest_memory() == (None if expected is None else expected * MIB)


@pytest.mark.parametrize("error", [FileNotFoundError("nvidia-smi"), subprocess.CalledProcessError(9, "nvidia-smi")])
def test_without_a_driver_nobody_can_tell(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("subprocess.run", fail)
    assert smallest_memory() is None
