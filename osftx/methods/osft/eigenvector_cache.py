"""EigenvectorCache on disk, by the content of the matrix that they belong to: no weight is decomposed twice.

They do not depend on the unfreeze ratio, so a sweep over ratios decomposes a base model once. A file is used only while
its content is what was written: it carries a digest of the vectors.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

VERSION = 2
"""Raised when the same matrix has to give other vectors."""


class EigenvectorCache:
    """The cache in `folder`, which need not exist yet; without a folder everything is computed."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def of(self, kind: str, source: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` returns, remembered under the content of `source` and the `kind` of computation.

        torch's version and the kind of device are in the key, too: another solver may choose another basis. A folder
        that cannot be written, or is full, only costs the computation.
        """
        if self.folder is None:
            return compute()
        words = f"{VERSION} {torch.__version__} {source.device.type} {kind} {source.dtype} {tuple(source.shape)} "
        path = self.folder / f"{_digest(source, words)[:32]}.safetensors"
        known = _read(path)
        if known is not None:
            return known.to(source.device)
        vectors = compute()
        _write(path, vectors)
        return vectors


def _read(path: Path) -> Tensor | None:
    """None where there is nothing, or not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            vectors = file.get_tensor("vectors")
            written = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return vectors if _digest(vectors) == written else None


def _write(path: Path, vectors: Tensor) -> None:
    content = vectors.cpu().contiguous()
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")  # several runs may write one file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": content}, partial, {"sha256": _digest(content)})
        partial.replace(path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _digest(tensor: Tensor, words: str = "") -> str:
    sha = hashlib.sha256(words.encode())
    sha.update(tensor.detach().cpu().contiguous().numpy().data)
    return sha.hexdigest()
