"""Modules are found as Python finds them, but without running anything of them."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from osftx.utils.import_path import module_is_found, search_path

FAILS = "raise RuntimeError('imported')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in ("found_alone.py", "found_package/__init__.py", "found_package/inner/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(FAILS)
    (tmp_path / "found_package/inner/deep.py").write_text(FAILS)
    (tmp_path / "found_loose").mkdir()
    (tmp_path / "found_loose/part.py").write_text(FAILS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["found_alone", "found_package", "found_package.inner", "found_package.inner.deep", "found_loose.part"]
)
def test_a_module_of_the_working_folder_is_found(folder: Path, name: str) -> None:
    before = set(sys.modules)
    assert module_is_found(name)
    assert not {module for module in set(sys.modules) - before if module.startswith("found_")}


@pytest.mark.parametrize("name", ["found_nowhere", "found_alone.inner", "found_package.none", "found_package.inner.no"])
def test_what_is_not_there_is_not_found(folder: Path, name: str) -> None:
    assert not module_is_found(name)


@pytest.mark.parametrize("name", ["json.decoder", "numpy", "sys"])
def test_installed_modules_are_found(name: str) -> None:
    assert module_is_found(name)


def test_a_module_that_was_made_in_memory_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "without_a_file", ModuleType("without_a_file"))
    assert not module_is_found("without_a_file")


def test_a_folder_does_not_hide_an_installed_package(folder: Path) -> None:
    """Programs leave folders that are named like themselves where they run."""
    (folder / "numpy").mkdir()
    assert module_is_found("numpy.linalg")


def test_the_working_folder_comes_first_where_it_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    assert search_path() == [os.getcwd(), "/elsewhere"]
    for known in ([str(Path.cwd()), "/elsewhere"], ["/elsewhere", ""]):
        monkeypatch.setattr(sys, "path", known)
        assert search_path() == known
