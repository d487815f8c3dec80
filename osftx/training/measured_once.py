"""What a phase measures once before it trains: an interrupted phase resumes with the same figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from osftx.config.phase_spec import PhaseSpec
from osftx.distributed.collectives import agreed
from osftx.utils.files import write_json


def measured_once(
    spec: PhaseSpec, name: str, measure: Callable[[], dict[str, Any]], of: object = None
) -> dict[str, Any]:
    """Returns what `measure` returns. Collective.

    The figures are kept in `<name>.json` beside the saves. A phase that resumes reads them from there, unless they were
    measured `of` something else.
    """
    if spec.resume is None:
        return measure()
    path = Path(spec.resume.folder) / f"{name}.json"
    known = agreed(_read, path)
    if known.get("of") == of and isinstance(known.get("measured"), dict):
        return dict(known["measured"])
    measured = measure()
    if dist.get_rank() == 0:
        write_json(path, {"of": of, "measured": measured})
    return measured


def _read(path: Path) -> dict[str, Any]:
    """Returns the content of the file; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
