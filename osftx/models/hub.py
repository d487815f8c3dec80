"""Finds a model by its path or its Hub name: what it consists of, and its files on this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from os.path import exists, expanduser, isdir  # False without permission; the methods of Path raise
from pathlib import Path

from huggingface_hub import HfApi, get_safetensors_metadata, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    SafetensorsParsingError,
)

from osftx.errors import ConfigurationError
from osftx.models.config_keys import problem_of_config
from osftx.models.files import MODEL_FILES, ModelFiles, read_folder
from osftx.models.tied_head import check_tied_head

# huggingface_hub uses httpx2 for HTTP since its version 2, and httpx before.
httpx = import_module("httpx2" if find_spec("httpx2") else "httpx")
HUB_TIMEOUT_S = 10.0


def inspect(path: str, revision: str | None, key: str = "model.path") -> ModelFiles:
    """Returns config and shapes of a folder or a Hub model, without downloading weights that are not on this machine.

    Raises ConfigurationError that names `key`, the setting with the model's path, and what could not be reached.
    """
    if looks_local(path):
        return _read(_existing(path, key), key)
    if cached := _in_cache(path, revision):
        return _read(cached, key)
    with _reaching(path, key):
        config = json.loads(Path(hf_hub_download(path, "config.json", revision=revision)).read_text(encoding="utf-8"))
        metadata = get_safetensors_metadata(path, revision=revision)
    shapes = {
        name: tuple(tensor.shape) for file in metadata.files_metadata.values() for name, tensor in file.tensors.items()
    }
    if wrong := problem_of_config(config):
        raise ConfigurationError([f"{key}={path}: {wrong}"])
    return ModelFiles(config, shapes)


def fetch(path: str, revision: str | None, key: str = "model.path") -> Path:
    """Returns the model's local folder; a Hub model is downloaded (with a progress bar) unless it is in the cache.

    Raises ConfigurationError that names `key` if the folder does not exist, if the Hub does not provide the model, or
    if what was downloaded is not a whole model.
    """
    if looks_local(path):
        return _existing(path, key)
    folder = _in_cache(path, revision, MODEL_FILES)
    if folder is None:
        with _reaching(path, key):
            folder = Path(snapshot_download(path, revision=revision, allow_patterns=MODEL_FILES))
    _read(folder, key)
    return folder


def _in_cache(path: str, revision: str | None, patterns: list[str] | None = None) -> Path | None:
    """Returns the folder of a Hub model on this machine; None if it is not in the cache, or only in part."""
    try:
        folder = Path(snapshot_download(path, revision=revision, local_files_only=True, allow_patterns=patterns))
        read_folder(folder)
    except (LocalEntryNotFoundError, HFValidationError, ConfigurationError):
        return None
    return folder


def _read(folder: Path, key: str) -> ModelFiles:
    files = read_folder(folder, key)
    check_tied_head(folder, files, key)
    return files


def looks_local(path: str) -> bool:
    """Returns whether `path` is a folder: anything but `owner/name`, and whatever exists on this machine."""
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
        HfApi().model_info(path, timeout=HUB_TIMEOUT_S)  # fails at once; a download would retry for half a minute
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
