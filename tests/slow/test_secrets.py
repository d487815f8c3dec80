"""No secret of a command line or of the environment is in anything that a run or a sweep leaves."""

import os
import subprocess
import sys
from pathlib import Path

from checkout import ROOT

PASSWORD, KEY, TOKEN = "pa55-of-the-database", "key-of-the-tracker", "hf_abcdefghijKLMNOPqrst"
SHORT = (
    "+experiment=tiny_two_phase",
    "~phases.skills",
    "osft.save_bases=false",
    "distributed.nproc_per_node=1",
    "phases.knowledge.num_epochs=1",
    "training.warmup_steps=0",
)
CALLBACK = """
from pathlib import Path
from osftx.training.callbacks.base import Callback


class Tracker(Callback):
    def __init__(self, api_key, url, path):
        self.found = f"{api_key} {url}"
        self.path = path

    def on_phase_end(self, phase, result):
        Path(self.path).write_text(self.found)
"""


def osftx(folder: Path, *overrides: str) -> str:
    settings = f"{{api_key: {KEY}, url: 'https://me:{PASSWORD}@host', path: {folder / 'found'}}}"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "osftx",
            *SHORT,
            f"callbacks=[{{path: tracker.Tracker, settings: {settings}}}]",
            *overrides,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "HF_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def assert_hidden(output: str, folder: Path) -> None:
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert written
    for secret in (PASSWORD, KEY, TOKEN):
        assert secret not in output
        assert [path for path, content in written.items() if secret.encode() in content] == []


def test_a_run_and_a_sweep_leave_no_secret_and_the_ranks_get_it(tmp_path: Path) -> None:
    (tmp_path / "tracker.py").write_text(CALLBACK)
    own = f"store_dir={tmp_path / 'left' / 'store'}"
    shown = osftx(tmp_path, own, f"output_dir={tmp_path / 'left' / 'run'}")
    assert_hidden(shown, tmp_path / "left")
    assert (tmp_path / "found").read_text() == f"{KEY} https://me:{PASSWORD}@host"
    assert "***" in (tmp_path / "left/run/config.yaml").read_text()
    again = osftx(tmp_path, own, f"output_dir={tmp_path / 'left' / 'run'}")
    assert "reused" in again, "the same command goes on in the folder"
    swept = osftx(
        tmp_path,
        own,
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir={tmp_path / 'left' / 'sweep'}",
        "training.seed=42,43",
    )
    assert_hidden(swept, tmp_path / "left")
    assert (tmp_path / "left/sweep/sweep.json").is_file()
