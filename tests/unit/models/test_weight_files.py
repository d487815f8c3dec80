"""Which files hold a model's weights, and every way in which that is not certain."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from osftx.errors import ConfigurationError
from osftx.models.files import read_folder
from osftx.models.weight_files import INDEX, SINGLE, weight_files

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
WEIGHT_MAP = {"a.weight": FIRST, "b.weight": FIRST, "c.weight": SECOND}


def save(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros((2, 2), dtype=np.float32) for name in names}, path)


def write_index(folder: Path, changes: Mapping[str, str | None] | None = None, **others: Any) -> None:
    """An index of the two files; `changes` replaces entries, and removes those that are None."""
    named = {name: file for name, file in {**WEIGHT_MAP, **(changes or {})}.items() if file is not None}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": named, **others}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in two files with an index."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save(tmp_path / FIRST, "a.weight", "b.weight")
    save(tmp_path / SECOND, "c.weight")
    write_index(tmp_path)
    return tmp_path


def problem(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_folder(folder)
    (line,) = raised.value.problems
    assert line.startswith(f"model.path={folder}: ")
    return line


def test_the_files_are_those_that_the_index_names(folder: Path) -> None:
    save(folder / "consolidated.safetensors", "a.weight")
    assert weight_files(folder) == [folder / FIRST, folder / SECOND]
    assert read_folder(folder).shapes.keys() == WEIGHT_MAP.keys()


def test_a_single_file_goes_before_an_index_as_in_transformers(folder: Path) -> None:
    save(folder / SINGLE, "a.weight")
    assert weight_files(folder) == [folder / SINGLE]


def test_a_single_file_beside_an_index_is_refused(folder: Path) -> None:
    save(folder / SINGLE, *WEIGHT_MAP)
    assert f"holds both {SINGLE} and {INDEX}" in (line := problem(folder))
    assert "delete the one" in line


def test_a_single_file_beside_pieces_is_refused(folder: Path) -> None:
    save(folder / SINGLE, *WEIGHT_MAP)
    (folder / INDEX).unlink()
    assert f"holds 2 files of weights, such as {FIRST}, that {SINGLE} does not count" in problem(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model-00003-of-00003.safetensors",
        "model.safetensors-00001-of-00009.safetensors",
        "shard-00000-model-00001-of-00001.safetensors",
    ],
)
def test_a_piece_that_the_index_does_not_name_is_refused(folder: Path, name: str) -> None:
    save(folder / name, "a.weight")
    assert f"holds 1 files of weights, such as {name}" in problem(folder)


@pytest.mark.parametrize("name", ["model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"])
def test_several_indexes_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text((folder / INDEX).read_text())
    assert f"holds {name} beside {INDEX}" in problem(folder)


def test_an_adapter_beside_the_weights_is_refused(folder: Path) -> None:
    """transformers would add it to the model, and it is in no file that osftx writes."""
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in (line := problem(folder))
    assert "merge" in line


def test_a_piece_that_is_missing_is_refused(folder: Path) -> None:
    (folder / SECOND).unlink()
    assert f"1 of 2 files of weights that {INDEX} names are missing, such as {SECOND}" in problem(folder)


@pytest.mark.parametrize(
    "name",
    ["parts/c.safetensors", "../c.safetensors", "/tmp/c.safetensors", "c.bin", "..", "./c.safetensors", ""],
)
def test_an_index_names_safetensors_files_in_its_own_folder_alone(folder: Path, name: str) -> None:
    (folder / SECOND).unlink()
    if name.endswith("c.safetensors") and not name.startswith("/"):
        save(folder / name, "c.weight")
    write_index(folder, {"c.weight": name})
    assert f"{INDEX} names {name!r}" in problem(folder)


def test_pieces_without_their_index_are_refused(folder: Path) -> None:
    (folder / INDEX).unlink()
    assert f"holds safetensors files, but neither {SINGLE} nor {INDEX}" in problem(folder)


def test_a_tensor_in_two_pieces_is_refused(folder: Path) -> None:
    """transformers would read the later file, whichever the index names."""
    save(folder / SECOND, "a.weight", "c.weight")
    assert f"a.weight is held by {FIRST} and by {SECOND}" in problem(folder)


def test_a_tensor_that_the_index_leaves_out_is_refused(folder: Path) -> None:
    write_index(folder, {"b.weight": None})
    assert f"b.weight is held by {FIRST}, but {INDEX} does not name it" in problem(folder)


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({"d.weight": FIRST}, f"d.weight is not held by {FIRST}"),
        ({"b.weight": SECOND}, f"b.weight is not held by {SECOND}"),
    ],
)
def test_a_tensor_that_its_piece_lacks_is_refused(folder: Path, changes: dict[str, str], lacking: str) -> None:
    """Because no file holds it, or another one."""
    write_index(folder, changes)
    assert f"{lacking}, as {INDEX} says" in problem(folder)


def test_an_index_that_transformers_cannot_read_is_refused(folder: Path) -> None:
    write_index(folder, metadata=None)
    assert 'add "metadata": {}' in problem(folder)


def test_a_config_that_names_other_files_is_refused(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text('{"transformers_weights": "other.safetensors"}')
    assert "transformers_weights='other.safetensors'" in problem(folder)
    config.write_text(json.dumps({"transformers_weights": INDEX}))
    assert read_folder(folder).shapes.keys() == WEIGHT_MAP.keys()
