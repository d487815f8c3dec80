"""Checks a head that the files hold although config.json ties it to the embeddings.

transformers ties the two only if they are equal, otherwise it leaves them apart with a warning; under ZeRO-3 it does
not compare them and ties them always. Such a model would be trained with one head and be saved with another.
"""

import json
from pathlib import Path

import numpy as np

from osftx.errors import ConfigurationError
from osftx.models.files import ModelFiles, embeddings, tensor_files
from osftx.models.structure import head, tied

_CHUNK = 1 << 24
"""Bytes that are compared at a time."""


def check_tied_head(folder: Path, files: ModelFiles, key: str = "model.path") -> None:
    """Raises ConfigurationError if `folder` holds a head that differs from the embeddings to which config.json ties it.

    `key` is the setting that names the model. The content of the two tensors is read only in a model that ties them and
    holds both.
    """
    table, output = embeddings(files), head(files)
    if table is None or output is None or not tied(files.config) or _same(folder, table, output):
        return
    raise ConfigurationError(
        [
            f"{key}={folder}: config.json has tie_word_embeddings=true, but {output} is not the same as {table}; set "
            f"it to false if {output} is the model's head, else remove that tensor from the files"
        ]
    )


def _same(folder: Path, one: str, other: str) -> bool:
    """Returns whether two tensors of a folder have the same precision, shape and content."""
    at = tensor_files(folder)
    (first, first_kind), (second, second_kind) = _bytes(at[one], one), _bytes(at[other], other)
    starts = range(0, first.size, _CHUNK)
    return first_kind == second_kind and all(
        np.array_equal(first[start : start + _CHUNK], second[start : start + _CHUNK]) for start in starts
    )


def _bytes(path: Path, tensor: str) -> tuple[np.ndarray, tuple[str, list[int]]]:
    """Returns the content of a tensor as a map of its file, and its precision and shape."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[tensor]
    begin, end = entry["data_offsets"]
    content = np.memmap(path, mode="r", offset=8 + length + begin, shape=(end - begin,)) if end > begin else np.empty(0)
    return content, (entry["dtype"], entry["shape"])
