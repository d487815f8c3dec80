"""The token ids at which a model's generation stops, as its files say it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GENERATION_CONFIG = "generation_config.json"
CONFIG = "config.json"


def stop_tokens(folder: Path) -> tuple[str | None, list[int]]:
    """Returns the file that decides where generation stops, and the token ids that it names.

    As in transformers, `config.json` counts only without a `generation_config.json`. Neither decides (None) where
    `config.json` says nothing: transformers then takes a default of the model's class.
    """
    generation = _read(folder / GENERATION_CONFIG)
    if generation is not None:
        return GENERATION_CONFIG, _ids(generation)
    config = _read(folder / CONFIG) or {}
    ids = _ids(config) or _ids(config.get("text_config") or {})
    return (CONFIG if ids else None), ids


def with_stop_tokens(folder: Path, added: Sequence[int]) -> dict[str, Any]:
    """Returns the content of the folder's `generation_config.json` with further stop tokens, behind its own."""
    _, ids = stop_tokens(folder)
    config = _read(folder / CONFIG) or {}
    content = _read(folder / GENERATION_CONFIG)
    if content is None:  # what transformers would take from config.json
        content = {name: config[name] for name in ("bos_token_id", "pad_token_id") if config.get(name) is not None}
    stops = list(dict.fromkeys([*ids, *added]))
    return {**content, "eos_token_id": stops if len(stops) > 1 else stops[0]}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _ids(config: dict[str, Any]) -> list[int]:
    named = config.get("eos_token_id")
    return [number for number in (named if isinstance(named, list) else [named]) if isinstance(number, int)]
