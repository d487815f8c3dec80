"""What a phase measures once before it trains: where it is broken off, it goes on with the same figures."""

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
    """What `measure` gives. A phase that is broken off and goes on takes what it measured at first, in `<name>.json`,
    unless that was `of` something else. Collective."""
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
    """Nothing where there is no such file, or not what was written."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
