"""Runs the process that measures benchmarks; shows its progress on the screen and writes its output to a log."""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from osftx.config.schema import DistributedConfig
from osftx.errors import TrainingError
from osftx.evaluation.lm_eval.spec import SPEC_FILE, BenchmarkSpec
from osftx.launch.environment import environment
from osftx.launch.gpus import exclusive_devices
from osftx.launch.outer_launcher import without_launcher
from osftx.utils.progress import progress

LOG_FILE = "log.txt"
POLL_S = 0.2
GRACE_S = 10.0
"""Seconds that the process is given to end after SIGTERM."""
CAUSE_LINES = 3
MARK = re.compile(r"osftx: task (?P<task>.+)")
REQUESTS = re.compile(r"Running (?P<kind>\w+) requests:\s+\d+%\|[^|]*\|\s*(?P<done>\d+)/(?P<total>\d+)")
"""Pattern of the harness's progress bar, which tqdm draws."""


def run_benchmarks(spec: BenchmarkSpec, distributed: DistributedConfig, timeout_s: int, state: str) -> None:
    """Measures `spec.tasks` on one GPU that no other run holds, or on as many CPU cores as all ranks have together.

    Raises TrainingError with the checkpoint, the cause and the log. The process never outlives this call.
    """
    path = spec.save()
    for task in spec.tasks:
        spec.score_file(task).unlink(missing_ok=True)
    log = path.with_name(LOG_FILE)
    cores = distributed.nproc_per_node * distributed.omp_num_threads
    one = replace(distributed, nproc_per_node=1, omp_num_threads=cores)
    command = [sys.executable, "-u", "-m", "osftx.evaluation.lm_eval", str(path), str(os.getpid())]
    who = f"benchmarks of {state}"
    with exclusive_devices(one, who) as devices, environment(one, devices), log.open("wb") as output:
        slow = without_launcher(os.environ) | {
            "TQDM_MININTERVAL": "1"
        }  # a bar in a file need not be redrawn more often
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=slow)
        try:
            in_time = _wait(process, log, time.monotonic() + timeout_s)
        finally:
            _end(process)
    if not in_time:
        cause = f"took longer than evaluation.lm_eval.timeout_s={timeout_s}; raise it, or set evaluation.lm_eval.limit"
    elif process.returncode < 0:
        cause = f"ended by signal {-process.returncode} (9 is often the system's, for want of memory)"
    elif process.returncode > 0:
        cause = _cause(log.read_text(errors="replace", encoding="utf-8"))
    else:
        return
    raise TrainingError(
        f"{who} failed on {spec.model}: {cause}\n  full log: {log}; settings: {path.parent / SPEC_FILE}"
    )


def _wait(process: subprocess.Popen, log: Path, deadline: float) -> bool:
    """Waits for the process; returns whether it ended before the deadline, a time of the monotonic clock."""
    shown = _Shown()
    with log.open(encoding="utf-8", errors="replace", newline="") as file:
        try:
            while process.poll() is None and time.monotonic() < deadline:
                shown.take(file.read())
                time.sleep(POLL_S)
            shown.take(file.read())
        finally:
            shown.close()
    return process.poll() is not None


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Shown:
    """Shows the harness's progress, read from its log, in the style of osftx's own progress bars."""

    def __init__(self) -> None:
        self._rest = ""
        self._task = ""
        self._bar: tqdm | None = None

    def take(self, text: str) -> None:
        *whole, self._rest = re.split(r"[\r\n]", self._rest + text)
        for line in whole:
            if (mark := MARK.fullmatch(line)) is not None:
                self.close()
                self._task = mark["task"]
            elif (found := REQUESTS.search(line)) is not None:
                self._show(int(found["done"]), int(found["total"]))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def _show(self, done: int, total: int) -> None:
        if self._bar is not None and (self._bar.total != total or done < self._bar.n):
            self.close()  # another kind of requests begins
        if self._bar is None:
            self._bar = progress(f"benchmark {self._task}", total, "requests")
        self._bar.update(done - self._bar.n)


def _cause(log: str) -> str:
    """Returns the first lines of the last traceback's exception, or the last line if there is no traceback."""
    lines = [line.rpartition("\r")[2] for line in log.splitlines() if line.strip()]
    tracebacks = [place for place, line in enumerate(lines) if line.startswith("Traceback ")]
    if tracebacks:
        after = lines[tracebacks[-1] + 1 :]
        told = next((place for place, line in enumerate(after) if not line.startswith(" ")), len(after))
        lines = after[told : told + CAUSE_LINES]
    else:
        lines = lines[-1:]
    return " ".join(line.strip() for line in lines) or "no message was left"
