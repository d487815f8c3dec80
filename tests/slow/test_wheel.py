"""The wheel that is built from the checkout: it holds every package, and runs outside of the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT, TINY_BASE

DATA = ROOT / "experiments" / "tiny" / "data"
TINY = [
    "+experiment=tiny_two_phase",
    f"model.path={TINY_BASE}",
    f"phases.knowledge.data.path={DATA / 'knowledge_train.jsonl'}",
    "~phases.skills",
    "~evaluation",
    "phases.knowledge.num_epochs=2",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs; the dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(command, check=True, timeout=300)
    return folder


def test_every_module_and_every_configuration_file_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = {f"osftx/{path.relative_to(ROOT / 'osftx').as_posix()}" for path in (ROOT / "osftx").rglob("*.py")}
    sources |= {f"osftx/conf/{path.relative_to(ROOT / 'conf').as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert sources - inside == set()
    assert {"osftx/py.typed", "osftx/report/page.html.jinja", "hydra_plugins/osftx_optuna/sweeper.py"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "experiments/", "benchmarks/"))]
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin" / "osftx"), *TINY, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_console_script_plans_and_trains_outside_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    dry = run(installed, tmp_path, "dry_run=true")
    assert dry.returncode == 0, dry.stderr
    assert "Plan of tiny_two_phase" in dry.stdout
    done = run(installed, tmp_path, "output_dir=run", "store_dir=store")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["phases"][0]["steps"] == 6
    assert (tmp_path / "run" / "phases" / "01_knowledge" / "checkpoint" / "model.safetensors").is_file()
