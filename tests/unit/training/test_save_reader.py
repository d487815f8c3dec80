"""Descriptions of saves: what torch writes is read, and nothing that a pickle names is run."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from osftx.training.save_reader import DESCRIPTION, SaveReader, read_description


@pytest.fixture
def save(tmp_path: Path) -> Path:
    dcp.save({"a.master": torch.arange(5.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)}, checkpoint_id=tmp_path)
    return tmp_path


def test_what_was_saved_is_read(save: Path) -> None:
    tensors = {"a.master": torch.zeros(5), "b": torch.zeros(2, 2, dtype=torch.bfloat16)}
    dcp.load(tensors, storage_reader=SaveReader(save))
    assert tensors["a.master"].tolist() == [0, 1, 2, 3, 4]
    assert tensors["b"].tolist() == [[1, 1], [1, 1]]


class Runs:
    """A pickle that calls a function when it is read."""

    def __init__(self, call: Any, *arguments: Any):
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("call", [os.system, exec, torch.load, pickle.loads, getattr], ids=lambda call: call.__name__)
def test_nothing_that_a_pickle_names_is_run(save: Path, tmp_path: Path, call: Any) -> None:
    mark = tmp_path / "mark"
    (save / DESCRIPTION).write_bytes(pickle.dumps(Runs(call, f"touch {mark}")))
    with pytest.raises(ValueError, match=r"it names [\w.]+, which no save holds"):
        read_description(save)
    with pytest.raises(CheckpointException, match="which no save holds"):
        dcp.load({"a.master": torch.zeros(5)}, storage_reader=SaveReader(save))
    assert not mark.exists()


def test_a_value_that_torch_would_unpickle_is_refused(save: Path) -> None:
    metadata = read_description(save)
    metadata.state_dict_metadata["b"] = BytesStorageMetadata()
    (save / DESCRIPTION).write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match="BytesStorageMetadata, which no save holds"):
        read_description(save)


def test_files_outside_of_the_save_are_not_named(save: Path) -> None:
    metadata = read_description(save)
    for place in metadata.storage_data.values():
        place.relative_path = "../other/__0_0.distcp"
    (save / DESCRIPTION).write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match="names a file outside of the save"):
        read_description(save)


@pytest.mark.parametrize("content", [b"", b"\x80", b"no pickle", pickle.dumps({}), pickle.dumps([1])])
def test_anything_else_is_told(save: Path, content: bytes) -> None:
    (save / DESCRIPTION).write_bytes(content)
    with pytest.raises(ValueError, match="none of a save"):
        read_description(save)
