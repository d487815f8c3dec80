"""docs/extending.md, done as it says: its steps are applied to a copy of the checkout, and its commands run there."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- (?P<kind>file|change): (?P<path>\S+) -->\n```\w+\n(?P<content>.*?)```", re.DOTALL)
COMMAND = re.compile(r"^python -m osftx (.*)$", re.MULTILINE)
SHORT = ["phases.knowledge.num_epochs=2", "phases.skills.num_epochs=1", "phases.skills.effective_batch_size=480"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with every step of the page in it."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("osftx", "conf", "hydra_plugins", "experiments/tiny"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for block in BLOCK.finditer(PAGE):
        path = root / block["path"]
        if block["kind"] == "file":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["content"])
        else:
            path.write_text(_changed(path.read_text(), block["content"]))
    return root


def _changed(text: str, diff: str) -> str:
    """`text` with the lines that begin with - replaced by those that begin with +."""
    lines = diff.splitlines()
    before, after = ("\n".join(line[1:] for line in lines if line[:1] == sign) for sign in "-+")
    assert text.count(before) == 1, f"the page changes what is not there once: {before}"
    return text.replace(before, after)


def run(copy: Path, *words: str) -> str:
    command = [sys.executable, "-m", "osftx", *words, *SHORT]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def command(part: str) -> list[str]:
    """The command of the page that has this in it."""
    (found,) = [line for line in COMMAND.findall(PAGE) if part in line]
    return shlex.split(found)


def phases(folder: Path) -> list[dict[str, object]]:
    return list(json.loads((folder / "results.json").read_text())["phases"])


def test_a_method_from_outside_trains_a_phase_on_two_ranks(copy: Path) -> None:
    run(copy, *command("norms_only"), "output_dir=method", "store_dir=store")
    first, second = phases(copy / "method")
    assert (first["method"], second["method"]) == ("norms_only.NormsOnly", "osft")
    assert first["steps"] == 6
    shown = json.loads((copy / "method" / "plan.json").read_text())["phases"][0]
    assert 0 < shown["trainable_parameters"] < 10_000
    from safetensors.torch import load_file

    start = load_file(copy / "experiments/tiny/base/model.safetensors")
    end = load_file(copy / "method/phases/01_knowledge/checkpoint/model.safetensors")
    changed = {name for name in start if not start[name].float().equal(end[name].float())}
    assert changed
    assert all("norm" in name for name in changed)
    again = run(copy, *command("norms_only"), "output_dir=method_again", "store_dir=store")
    assert again.count("reused: trained before") == 2


def test_a_subspace_rule(copy: Path) -> None:
    run(copy, *command("chance"), "output_dir=rule", "reuse=false")
    for phase in phases(copy / "rule"):
        assert phase["preservation"]["leak_fp32"] < 1e-5  # type: ignore[index]


def test_a_callback(copy: Path) -> None:
    run(copy, *command("loss_writer"), "output_dir=callback", "reuse=false")
    lines = (copy / "losses.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["knowledge", "5"], ["skills", "5"]]


def test_a_sweep(copy: Path) -> None:
    words = command("my_ratios")
    run(copy, *words, "hydra.sweep.dir=sweep", "store_dir=store")
    assert len(json.loads((copy / "sweep" / "sweep.json").read_text())["jobs"]) == 2


def test_a_model_family_and_a_chat_format(copy: Path) -> None:
    program = (
        "from osftx.config.schema import DataFormat, TrainOn\n"
        "from osftx.data.formats import conversation_of, shape_of\n"
        "from osftx.models.targets import find_targets\n"
        "shapes = {'model.layers.0.self_attn.q_proj.weight': (8, 8), 'model.norm.weight': (8,)}\n"
        "print([target.name for target in find_targets({'model_type': 'stablelm'}, shapes, None)])\n"
        "row = {'question': 'a', 'answer': 'b'}\n"
        "shape = shape_of(row, DataFormat.auto, 'document')\n"
        "print([message['content'] for message in conversation_of(shape, row, TrainOn.assistant).messages])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['model.layers.0.self_attn.q_proj']", "['a', 'b']"]
