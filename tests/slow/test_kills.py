"""SIGKILL at random moments: whatever is killed and when, the same command comes to the same weights in the end.

Takes several minutes, so it is not a part of `make test`: `make test-slow`.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkout import ROOT

from osftx.store.__main__ import main as store_command

KILLS = 12
SEED = 20261124
SHORT = (
    "osft.subspace=activations",
    "~phases.skills",  # starting ranks is what takes the time, and a second phase would start more
    "~evaluation.sets.skills",
    "phases.knowledge.num_epochs=4",
    "checkpointing.every_steps=2",
)
LAST_STEP = 12
LONGEST_S = 300
ALL_GONE_S = 45
"""Ranks have 30 seconds to leave when their parent is killed in the middle of a step."""

MOMENTS = {
    "the start": None,
    "measuring what must be kept": "store/unfinished/*/kept_inputs",
    "the subspaces": "store/unfinished/*/bases",
    "the first save": "store/unfinished/*/step_*.partial",
    "training": "store/unfinished/*/step_*",
    "the last save": f"store/unfinished/*/step_{LAST_STEP:08d}*",
    "the export": "run/phases/*/checkpoint.partial",
    "evaluating": "run/phases/*/checkpoint",
    "committing": "store/phases/*.partial-*",
    "the store": "store/phases/*",
    "the results": "run/results.json",
}
"""What a kill waits for: a path that was not there when the run began, or nothing."""


@dataclass
class Runs:
    """Runs of one command, all in one folder with one store."""

    folder: Path

    def start(self) -> subprocess.Popen[str]:
        fixed = [f"store_dir={self.folder / 'store'}", f"output_dir={self.folder / 'run'}"]
        command = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *SHORT, *fixed]
        with (self.folder / "screen.log").open("a") as screen:
            screen.write("--- the command is given\n")
            screen.flush()
            return subprocess.Popen(command, cwd=ROOT, stdout=screen, stderr=subprocess.STDOUT, text=True)

    @property
    def screen(self) -> str:
        return (self.folder / "screen.log").read_text()

    def present(self, pattern: str) -> set[Path]:
        return set(self.folder.glob(pattern))

    def processes(self) -> list[int]:
        """Of this command and its ranks, the parent first."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
        return sorted(found)

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + ALL_GONE_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, "ranks outlived their parent"

    def weights(self) -> bytes:
        return (self.folder / "run/phases/01_knowledge/checkpoint/model.safetensors").read_bytes()

    def whole(self) -> bool:
        return store_command(["--store-dir", str(self.folder / "store"), "verify"]) == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    runs = Runs(tmp_path_factory.mktemp("undisturbed"))
    assert runs.start().wait(LONGEST_S) == 0, runs.screen[-3000:]
    steps = (runs.folder / "run/phases/01_knowledge/metrics.jsonl").read_text().count("\n")
    assert steps == LAST_STEP
    return runs.weights()


def kill(runs: Runs, random_: random.Random) -> str | None:
    """Start the command and kill its parent or one of its ranks; None when it ended before, as it should."""
    what, pattern = random_.choice(list(MOMENTS.items()))
    victim, delay = random_.choice(["the parent", "a rank"]), random_.uniform(0, 0.3 if pattern else 20)
    before = runs.present(pattern) if pattern else set()
    running = runs.start()
    deadline = time.monotonic() + LONGEST_S
    while pattern and running.poll() is None and not runs.present(pattern) - before:
        assert time.monotonic() < deadline, f"hangs before {what}"
        time.sleep(0.002)
    time.sleep(delay)
    if running.poll() is None:
        ranks = [process for process in runs.processes() if process != running.pid]
        hit = random_.choice(ranks) if victim == "a rank" and ranks else running.pid
        try:
            os.kill(hit, signal.SIGKILL)
        except ProcessLookupError:  # the rank has just ended
            hit = running.pid
            running.kill()
        code = running.wait(LONGEST_S)
        runs.wait_until_gone()
        if code != 0:
            return f"{what}: {'the parent' if hit == running.pid else 'a rank'}"
    code = running.wait(LONGEST_S)
    assert code == 0, f"ended with {code} by itself, before {what}: {runs.screen[-3000:]}"
    return None


def test_the_end_is_the_same_whatever_was_killed(undisturbed: bytes, tmp_path: Path) -> None:
    random_ = random.Random(SEED)
    runs, resumed, reused = Runs(tmp_path), 0, 0
    killed: list[str] = []
    while len(killed) < KILLS:
        done = kill(runs, random_)
        if done is not None:
            killed.append(done)
            print(f"{len(killed)} of {KILLS}: killed at {done}", flush=True)
            continue
        assert runs.weights() == undisturbed, killed
        assert runs.whole(), killed
        resumed += runs.screen.count("going on after step")
        reused += runs.screen.count("reused: trained before")
        for part in ("store", "run"):  # from the beginning again
            shutil.rmtree(tmp_path / part)
        (tmp_path / "screen.log").unlink()
    assert runs.start().wait(LONGEST_S) == 0, runs.screen[-3000:]
    assert runs.weights() == undisturbed, killed
    assert runs.whole(), killed
    assert not list((tmp_path / "store" / "unfinished").iterdir())
    resumed += runs.screen.count("going on after step")
    reused += runs.screen.count("reused: trained before")
    print(f"went on from a save {resumed} times, reused a phase {reused} times", flush=True)
    assert resumed > 0
    assert reused > 0
    assert len(set(killed)) >= KILLS // 3  # of many kinds
