"""Scores in the store. Each file has the digest of what it holds: a changed or misplaced score is measured anew."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from osftx.utils.files import write_json


def read_score(path: Path) -> dict[str, Any] | None:
    """Returns what `keep_score` wrote to this path; None if there is nothing, or something else."""
    return _content(path) if score_problem(path) is None else None


def keep_score(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a score. Does nothing if the file cannot be written (a read-only store): the next run measures again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"score": dict(content), "sha256": _digest(path, dict(content))})


def score_problem(path: Path) -> str | None:
    """Returns what is wrong with a file of a score; None if nothing is."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["sha256"] != _digest(path, content["score"]):
            return "is not what was written under this name"
        return None if isinstance(content["score"], dict) and content["score"] else "holds no score"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, TypeError, KeyError, RecursionError):
        return "is damaged, or of an earlier version"


def _content(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))["score"])


def _digest(path: Path, score: Any) -> str:
    """Returns the digest of a score and its place: the name has the fingerprints of what was measured on what."""
    place = f"{path.parent.name}/{path.name}"
    return hashlib.sha256(json.dumps([place, score], sort_keys=True, allow_nan=False).encode()).hexdigest()
