"""Methods by their names in the configuration."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from osftx.errors import ConfigurationError
from osftx.methods import registry
from osftx.methods.osft.method import Osft
from osftx.methods.registry import BUILT_IN, built_in, method_named
from osftx.methods.sft.method import Sft

MINE = """
from osftx.methods.sft.method import Sft

class Mine(Sft):
    name = "mine"
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own in the working directory, with the method `Mine`."""
    module = "osftx_test_method"
    (tmp_path / f"{module}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    return module


def test_the_methods_of_the_package() -> None:
    assert [type(method) for method in built_in()] == [Osft, Sft]
    assert [method.name for method in built_in()] == list(BUILT_IN)
    assert method_named("osft") is method_named("osft")


def test_a_class_is_found_by_its_import_path_from_the_working_directory(mine: str) -> None:
    method = method_named(f"{mine}.Mine")
    assert method.name == "mine"
    assert isinstance(method, Sft)


def test_a_method_is_found_by_its_entry_point(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And named among those that there are."""
    monkeypatch.syspath_prepend(".")
    point = EntryPoint("mine", f"{mine}:Mine", "osftx.methods")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "osftx.methods" else [])
    assert method_named("mine").name == "mine"
    with pytest.raises(ConfigurationError, match="use one of osft, sft, mine, or an import path"):
        method_named("yours")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lora", "no such method; use one of osft, sft, or an import path MODULE.CLASS"),
        ("OSFT", "no such method; use one of osft, sft, or an import path MODULE.CLASS"),
        ("", "no such method; use one of osft, sft, or an import path MODULE.CLASS"),
        ("nowhere.Lora", "cannot be imported (No module named 'nowhere'); correct the name or install it"),
        ("math.Lora", "cannot be imported (module 'math' has no attribute 'Lora'); correct the name or install it"),
        ("math.floor", "is no subclass of osftx.methods.base.Method; correct the path"),
    ],
)
def test_a_name_that_is_no_method_is_refused(name: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        method_named(name)
    assert raised.value.problems == [f"method={name}: {says}"]
