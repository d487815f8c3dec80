"""What a model consists of, read from its files: config, tensor names, shapes. Needs no torch and no weights.

A model is a Hugging Face folder on disk or a Hub name. A dry run reads the headers alone, from the Hub if need be; a
real run has the files fetched first.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from math import prod
from os.path import exists, expanduser, isdir  # False where nobody may look; the methods of Path raise
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_safetensors_metadata, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    SafetensorsParsingError,
)
from safetensors import SafetensorError, safe_open

from osftx.errors import ConfigurationError

# What huggingface_hub speaks HTTP with: httpx2 since its version 2, httpx before.
httpx = import_module("httpx2" if find_spec("httpx2") else "httpx")

HUB_TIMEOUT_S = 10.0
MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py"]


@dataclass(frozen=True)
class ModelFiles:
    """A model's config.json and the shape of each tensor in its safetensors files."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @cached_property
    def parameters(self) -> int:
        """Numbers in the model, tied weights once."""
        return sum(prod(shape) for shape in self.shapes.values())


def tensor_files(folder: Path) -> dict[str, Path]:
    """The safetensors file of each tensor, in the files' order."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    files = {}
    for name in names:
        with safe_open(folder / name, framework="np") as file:
            files.update(dict.fromkeys(file.keys(), folder / name))
    return files


def read_folder(folder: Path, key: str = "model.path") -> ModelFiles:
    """Config and shapes of a model on disk; `key` is the setting that names it, for messages.

    Raises ConfigurationError when it is not a Hugging Face model folder.
    """
    try:
        config = dict(json.loads((folder / "config.json").read_text()))
        shapes: dict[str, tuple[int, ...]] = {}
        for path in sorted(set(tensor_files(folder).values())):
            with safe_open(path, framework="np") as file:
                shapes.update({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
    except (OSError, TypeError, ValueError, KeyError, SafetensorError) as error:  # missing, or not what it should hold
        raise ConfigurationError(
            [
                f"{key}={folder}: not a Hugging Face model folder with config.json and safetensors files "
                f"({type(error).__name__}: {error}); give another folder, or download or save the model again"
            ]
        ) from error
    return ModelFiles(config, shapes)


def inspect(path: str, revision: str | None, key: str = "model.path") -> ModelFiles:
    """Config and shapes of a folder or a Hub model, without its weights where they are not here yet.

    Raises ConfigurationError naming `key`, the setting that asked for it, and what could not be reached.
    """
    if looks_local(path):
        return read_folder(_existing(path, key), key)
    try:
        return read_folder(Path(snapshot_download(path, revision=revision, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError, ConfigurationError):
        pass  # not in the cache, or only a part of it: ask the Hub for the headers
    with _reaching(path, key):
        config = json.loads(Path(hf_hub_download(path, "config.json", revision=revision)).read_text())
        metadata = get_safetensors_metadata(path, revision=revision)
    shapes = {
        name: tuple(tensor.shape) for file in metadata.files_metadata.values() for name, tensor in file.tensors.items()
    }
    return ModelFiles(config, shapes)


def fetch(path: str, revision: str | None, key: str = "model.path") -> Path:
    """The model's local folder; a Hub model is downloaded (with a progress bar) unless the cache has it."""
    if looks_local(path):
        return _existing(path, key)
    try:
        cached = Path(snapshot_download(path, revision=revision, local_files_only=True, allow_patterns=MODEL_FILES))
        read_folder(cached)
        return cached
    except (LocalEntryNotFoundError, HFValidationError, ConfigurationError):
        pass
    with _reaching(path, key):
        return Path(snapshot_download(path, revision=revision, allow_patterns=MODEL_FILES))


def looks_local(path: str) -> bool:
    """A Hub name is `owner/name`; everything else, and whatever exists here, is a folder."""
    return exists(path) or path.startswith(("/", ".", "~")) or path.count("/") != 1


def _existing(path: str, key: str) -> Path:
    folder = Path(expanduser(path))
    if not isdir(folder):
        raise ConfigurationError(
            [
                f"{key}={path}: no such folder (looked in {Path.cwd()}), and not a Hub name (owner/name); "
                "correct the path"
            ]
        )
    return folder


@contextmanager
def _reaching(path: str, key: str) -> Iterator[None]:
    try:
        HfApi().model_info(path, timeout=HUB_TIMEOUT_S)  # fails at once, where a download would retry for half a minute
        yield
    except HFValidationError as error:
        raise ConfigurationError(
            [f"{key}={path}: no such folder (looked in {Path.cwd()}), and not a Hub name ({error}); correct the path"]
        ) from error
    except (NotASafetensorsRepoError, SafetensorsParsingError) as error:
        raise ConfigurationError([f"{key}={path}: no weights that can be read ({error}); use another model"]) from error
    except (HfHubHTTPError, EntryNotFoundError, httpx.TransportError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(
            [
                f"{key}={path}: no such folder here, and the Hub could not be reached or refused it "
                f"({type(error).__name__}: {first_line}); give a local folder, log in with `hf auth login`, or check "
                "the network"
            ]
        ) from error
