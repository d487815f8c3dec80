"""Reads the tensors of a save without running what its files say.

torch.distributed.checkpoint pickles the description of a save, and a pickle can call anything. Here only the classes of
which such a description consists are known, and it may describe tensors alone: torch unpickles every other value.
"""

import pickle
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

DESCRIPTION = ".metadata"
"""Name of the file with the description, as torch.distributed.checkpoint calls it."""
_METADATA = "torch.distributed.checkpoint.metadata"
_KNOWN = {
    *(
        (_METADATA, name)
        for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "ChunkStorageMetadata")
    ),
    *((_METADATA, name) for name in ("TensorProperties", "_MEM_FORMAT_ENCODING")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}


class SaveReader(FileSystemReader):
    """Reads a save in `path`. Raises ValueError for a description that no save of tensors has."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._folder = path

    def read_metadata(self, *_arguments: Any, **_settings: Any) -> Metadata:
        metadata = read_description(self._folder)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def read_description(folder: Path) -> Metadata:
    """Returns the description of the save in `folder`.

    Raises ValueError, with the reason, if it is no description of tensors in the files of this folder, OSError if it
    cannot be read.
    """
    with (folder / DESCRIPTION).open("rb") as file:
        try:
            found = _Unpickler(file).load()
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(f"its {DESCRIPTION} is none of a save ({' '.join(str(error).split())})") from error
    if not isinstance(found, Metadata):
        raise ValueError(f"its {DESCRIPTION} is none of a save (it holds {type(found).__name__})")
    if others := [
        name for name, kind in _items(found.state_dict_metadata) if not isinstance(kind, TensorStorageMetadata)
    ]:
        raise ValueError(f"its {DESCRIPTION} says that {others[0]} is no tensor")
    for _, place in _items(found.storage_data):
        name = str(getattr(place, "relative_path", None))
        if PurePath(name).name != name:
            raise ValueError(f"its {DESCRIPTION} names a file outside of the save ({name})")
    return found


class _Unpickler(pickle.Unpickler):
    """Knows the classes of a description alone."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no save holds")


def _items(content: Any) -> list[tuple[Any, Any]]:
    return list(content.items()) if isinstance(content, dict) else []
