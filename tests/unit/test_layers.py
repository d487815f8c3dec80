"""The structure of the package: which package may import which, and where heavy libraries are imported.

Read from the source with `ast`, imports inside functions included; those for type checkers alone are left out.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Set

import pytest
from checkout import ROOT

PACKAGE = ROOT / "osftx"

LAYERS = [
    "errors",
    "utils",
    "config",
    "models",
    "data",
    "distributed",
    "training",
    "probes",
    "methods",
    "store",
    "launch",
    "evaluation",
    "planning",
    "worker",
    "results",
    "report",
    "compare",
    "runs",
    "sweep",
    "cli",
    "__main__",
]
"""From the lowest to the highest: a package imports from itself and from lower ones."""

RANKS = {"distributed", "training", "probes", "worker"}
"""What runs on the ranks alone."""
ARITHMETIC = {"osftx.distributed.gradient_bucket", "osftx.distributed.partition"}
"""Modules of the ranks' packages that only compute with numbers: estimates use them, too."""
LAUNCHING = {"store", "launch", "planning", "results", "report", "compare", "runs", "sweep", "cli"}
"""What runs in the launching process alone. The two sides share plain data and never import each other's code."""

HEAVY: dict[str, tuple[str, ...]] = {
    "deepspeed": ("distributed/",),
    "torch": (
        "distributed/",
        "training/",
        "probes/",
        "worker/",
        "evaluation/held_out.py",
        "evaluation/base_comparison.py",
        "evaluation/generation.py",
        "evaluation/lm_eval/__main__.py",
        "launch/gpus.py",
        "launch/launcher.py",
        "launch/rendezvous.py",
        "models/attention.py",
        "models/completeness.py",
        "models/weight_names.py",
        "methods/",
    ),
    "transformers": (
        "data/chat/transformers_tokenizer.py",
        "distributed/",
        "evaluation/base_comparison.py",
        "evaluation/generation.py",
        "models/attention.py",
        "models/completeness.py",
        "models/weight_names.py",
        "methods/osft/setup.py",
        "probes/packing_check.py",
        "utils/library_logging.py",
        "worker/generate_answers.py",
    ),
    "liger_kernel": ("distributed/load_model.py",),
    "hydra": ("cli/", "sweep/"),
    "optuna": ("sweep/",),
    "matplotlib": ("report/", "compare/figures.py"),
    "lm_eval": ("evaluation/lm_eval/__main__.py",),
}
"""Where each heavy library may be imported: folders (with a slash) and files."""

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


def package(module: str) -> str:
    """The package that a module is in, or the module where it lies in the root."""
    return module.split("/", maxsplit=1)[0].removesuffix(".py")


def packages_used(module: str, besides: Set[str] = frozenset()) -> set[str]:
    found = (name for name in imports(module) if name.startswith("osftx.") and name.rpartition(".")[0] not in besides)
    return {name.split(".")[1] for name in found} - {package(module)}


def test_the_root_holds_no_more_than_three_files() -> None:
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == ["__init__.py", "__main__.py", "errors.py"]


def test_every_package_has_its_layer() -> None:
    assert {package(module) for module in MODULES} - {"__init__"} == set(LAYERS)


@SOURCES
def test_low_packages_never_import_high_ones(module: str) -> None:
    if module == "__init__.py":
        assert list(imports(module)) == []
        return
    height = LAYERS.index(package(module))
    assert {used for used in packages_used(module) if LAYERS.index(used) > height} == set()


@SOURCES
def test_ranks_and_launching_process_do_not_import_each_other(module: str) -> None:
    if package(module) in RANKS:
        assert packages_used(module) & LAUNCHING == set()
    if package(module) in LAUNCHING:
        assert packages_used(module, ARITHMETIC) & RANKS == set()


def test_no_two_modules_import_each_other() -> None:
    """No circle of imports between files, those inside functions included."""
    names = {
        module: "osftx." + module.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for module in MODULES
    }
    by_name = {name: module for module, name in names.items()}

    def found(name: str) -> str | None:
        while name and name not in by_name:
            name = name.rpartition(".")[0]
        return by_name.get(name)

    graph = {
        module: {target for name in imports(module) if (target := found(name)) not in (None, module)}
        for module in MODULES
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module in done:
            return
        for target in sorted(graph[module]):
            walk(target, (*way, module))
        done.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_stay_where_they_are_needed(library: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == library for name in imports(module))}
    places = HEAVY[library]
    assert {module for module in users if not module.startswith(places)} == set()
    assert {place for place in places if not any(module.startswith(place) for module in users)} == set()


@pytest.mark.process
def test_a_dry_run_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['osftx', '+experiment=tiny_two_phase', 'dry_run=true']\n"
        "from osftx.cli.app import main\n"
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
