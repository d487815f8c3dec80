"""Cache of eigenvectors on disk, by the content of the decomposed matrix: no matrix is decomposed twice.

Eigenvectors do not depend on the unfreeze ratio, so a sweep over ratios decomposes a base model once. A file contains a
digest of its vectors and its own name, and is used only if both match.
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
"""Version of the cache; to be raised if the same matrix must give other vectors."""


class EigenvectorCache:
    """The cache in `folder`, which need not exist yet; if `folder` is None, everything is computed."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def of(self, kind: str, source: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Returns what `compute` returns, cached under the content of `source` and the `kind` of computation.

        The key includes torch's version and the kind of device, because another solver may choose another basis. If the
        folder cannot be written or is full, the result is computed again next time.
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
    """Returns the vectors in the file; None if there is no such file or its content does not match its digest."""
    try:
        with safe_open(path, framework="pt") as file:
            vectors = file.get_tensor("vectors")
            about = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    own = about.get("name", path.name) == path.name  # earlier versions wrote no name
    return vectors if own and _digest(vectors) == about.get("sha256") else None


def _write(path: Path, vectors: Tensor) -> None:
    content = vectors.cpu().contiguous()
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")  # several runs may write the same file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": content}, partial, {"sha256": _digest(content), "name": path.name})
        partial.replace(path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _digest(tensor: Tensor, words: str = "") -> str:
    sha = hashlib.sha256(words.encode())
    sha.update(tensor.detach().cpu().contiguous().numpy().data)
    return sha.hexdigest()
