"""Low modules never import high ones, and heavy packages are imported only where they are needed.

Read from the source with `ast`, imports inside functions included; those for type checkers alone are left out.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "osftx"
ROOT = PACKAGE.parent

# From the lowest to the highest. A module may import from lower layers, and from its own package
# (`osft`, `training`, ...); two others of one layer do not know each other.
LAYERS: list[tuple[str, ...]] = [
    ("errors", "files", "progress", "saves", "devices", "objectives", "hydra_errors", "lifetime"),
    ("channel", "gradient_bucket"),
    ("manifest", "config"),
    ("model_folder", "data"),
    ("phase", "schedule", "steps", "conversion", "validate", "osft", "outer", "nodes"),
    ("estimate",),
    ("training", "measured", "plan", "launch", "store"),
    ("benchmarks", "evaluation", "fits", "following", "preserve", "replay", "reuse", "run_folder", "held_out"),
    ("preflight", "open_phase", "quiet"),
    ("foresight",),
    ("train_phase", "calibrate_phase", "display", "report", "specs"),
    ("worker", "orchestrator", "calibration", "room", "show_data", "sweep", "parallel", "compare"),
    ("__main__",),
]
LAYER = {name: height for height, names in enumerate(LAYERS) for name in names}

# The ranks' side and the parent's side: each knows the plain data of the other, never its code.
RANKS = {"training", "measured", "open_phase", "foresight", "quiet", "calibrate_phase", "train_phase", "worker"}
PARENT = {
    "channel",
    "nodes",
    "outer",
    "following",
    "benchmarks",
    "calibration",
    "compare",
    "devices",
    "estimate",
    "fits",
    "hydra_errors",
    "run_folder",
    "parallel",
    "plan",
    "preflight",
    "preserve",
    "replay",
    "reuse",
    "room",
    "specs",
    "store",
    "sweep",
    "display",
    "launch",
    "orchestrator",
    "report",
    "schedule",
    "conversion",
    "validate",
    "held_out",
    "show_data",
    "__main__",
}

DEEPSPEED = {
    "osft/merging.py",
    "osft/sharding.py",
    "osft/subspace.py",
    "training/checkpoint.py",
    "training/engine.py",
    "training/export.py",
    "training/free_share.py",
    "training/reading.py",
    "training/snapshot.py",
    "training/starting_masters.py",
    "training/trainer.py",
    "evaluation/heldout.py",
    "foresight.py",
    "train_phase.py",
}
TORCH = DEEPSPEED | {
    "calibrate_phase.py",
    "measured.py",
    "open_phase.py",
    "benchmarks/__main__.py",
    "launch.py",
    "osft/decomposition.py",
    "osft/eigenvectors.py",
    "osft/kept_inputs.py",
    "osft/layer.py",
    "osft/projection.py",
    "osft/root.py",
    "osft/source_weights.py",
    "training/attention.py",
    "training/batches.py",
    "training/curve.py",
    "training/importance.py",
    "training/inputs.py",
    "training/packing_check.py",
    "training/stored_names.py",
    "worker.py",
}
ALLOWED_IN = {
    "hydra": {"__main__.py", "hydra_errors.py", "parallel.py", "sweep/callback.py"},
    "deepspeed": DEEPSPEED,
    "torch": TORCH,
    "transformers": {
        "osft/subspace.py",
        "training/attention.py",
        "training/engine.py",
        "training/packing_check.py",
        "training/stored_names.py",
        "quiet.py",
    },
    "liger_kernel": {"training/engine.py"},
    "matplotlib": {
        "compare/figures.py",
        "report/drawing.py",
        "report/plan_figures.py",
        "report/protection_figures.py",
        "report/retention_figures.py",
        "report/sweep_figures.py",
        "report/training_figures.py",
    },
    "lm_eval": {"benchmarks/__main__.py"},
    "optuna": {"sweep/importance.py"},
}

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
SOURCES = pytest.mark.parametrize("module", MODULES)


def imports(module: str) -> Iterator[str]:
    """The full name of everything that a module imports, at its top or later."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module: str) -> str:
    """The module, or the package that it is in: what the table names."""
    return module.split("/", maxsplit=1)[0].removesuffix(".py")


def parts_used(module: str) -> set[str]:
    used = {name.split(".")[1] for name in imports(module) if name.startswith("osftx.")}
    return used - {part(module)}


def test_every_module_has_its_layer() -> None:
    parts = {part(module) for module in MODULES} - {"__init__"}
    assert parts == set(LAYER)
    assert len(LAYER) == sum(len(names) for names in LAYERS)


@SOURCES
def test_low_modules_never_import_high_ones(module: str) -> None:
    if module == "__init__.py":
        assert list(imports(module)) == []
        return
    too_high = {used for used in parts_used(module) if LAYER[used] >= LAYER[part(module)]}
    assert too_high == set()


@SOURCES
def test_the_ranks_and_the_parent_do_not_import_each_other(module: str) -> None:
    used = parts_used(module)
    if part(module) in RANKS:
        assert used & PARENT == set()
    if part(module) in PARENT:
        assert used & RANKS == set()


@pytest.mark.parametrize("package", ALLOWED_IN)
def test_heavy_packages_stay_where_they_are_needed(package: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == package for name in imports(module))}
    assert users == ALLOWED_IN[package]


def test_a_dry_run_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['osftx', '+experiment=tiny_two_phase', 'dry_run=true']\n"
        "from osftx.__main__ import main\n"
        "main()\n"
        "heavy = {'torch', 'transformers', 'deepspeed', 'datasets', 'matplotlib', 'optuna', 'pandas', 'scipy'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert "Plan of tiny_two_phase" in done.stdout
