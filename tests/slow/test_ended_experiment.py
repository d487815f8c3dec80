"""The shipped experiment where it fails or is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from checkout import ROOT

BASE = ROOT / "experiments" / "tiny" / "base"
COMMAND = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", "reuse=false"]


def test_a_failed_phase_says_how_to_go_on(tmp_path: Path) -> None:
    overrides = [
        f"output_dir={tmp_path / 'run'}",
        f"phases.skills.init_from={BASE}",
        "phases.skills.method=sft",
        "phases.skills.learning_rate=1e30",
        "phases.skills.max_grad_norm=0",
        "training.warmup_steps=0",
    ]
    done = subprocess.run([*COMMAND, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "phase 'skills' failed on rank" in done.stderr
    assert "lower learning_rate" in done.stderr
    assert f"phases.skills.init_from={BASE}" in done.stderr
    assert [path.name for path in (tmp_path / "run" / "phases").iterdir()] == ["02_skills"]


def test_a_stop_signal_ends_every_process(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*COMMAND, f"output_dir={tmp_path / 'run'}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("training knowledge"):
            break
    workers = _processes_with(str(tmp_path / "run"))
    assert len(workers) >= 3  # this command and two ranks
    running.send_signal(signal.SIGTERM)
    _, complaint = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "phase 'knowledge' was stopped by SIGTERM" in complaint
    assert "Traceback" not in complaint
    deadline = time.monotonic() + 20
    while _processes_with(str(tmp_path / "run")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _processes_with(str(tmp_path / "run"))


def _processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
    return found
