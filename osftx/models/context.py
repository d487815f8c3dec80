"""Tells how many positions a model's config declares, and whether the model runs longer samples. Needs no torch.

Rotary positions are computed for every length, and scaling (YaRN, Llama 3's, linear, dynamic, LongRoPE) changes how, so
transformers runs samples of any length with them. A table of learned positions ends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from osftx.models.families import FAMILIES
from osftx.models.files import ModelFiles

_TABLES = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight", "position_embedding.weight")
"""Usual endings of the names of tables of learned positions."""
_ROTARY = ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "rotary_pct", "rotary_emb_base")
"""Keys of config.json that only models with rotary positions have."""


@dataclass(frozen=True)
class Context:
    """The positions of a model."""

    declared: int
    """Number of positions that config.json declares, after scaling."""
    ends: bool
    """Whether the model cannot run a longer sample."""


def context_of(files: ModelFiles) -> Context | None:
    """Returns the positions of a model; None if config.json does not say how many it has.

    A model of which it is not certain that its positions are rotary cannot run more than it declares.
    """
    config = {**files.config, **(files.config.get("text_config") or {})}
    stated = config.get("max_position_embeddings") or config.get("n_positions")
    table = _learned(files)
    positions = stated if isinstance(stated, int) else table
    if not positions or positions < 0:
        return None
    if table is not None:
        return Context(positions, ends=True)
    rotary = config.get("model_type") in FAMILIES or any(config.get(key) is not None for key in _ROTARY)
    return Context(max([positions, *_scaled(config, positions)]), ends=not rotary)


def _learned(files: ModelFiles) -> int | None:
    """Returns the number of rows of the table of learned positions; None for a model without one."""
    found = (shape for name, shape in files.shapes.items() if name.endswith(_TABLES) and "vision" not in name)
    return next((shape[0] for shape in found if len(shape) == 2), None)


def _scaled(config: Mapping[str, Any], positions: int) -> Iterator[int]:
    """Yields the numbers of positions to which the config scales; a model may scale some of its layers otherwise."""
    for key in ("rope_parameters", "rope_scaling"):
        outer = config.get(key)
        if not isinstance(outer, Mapping):
            continue
        for rope in (outer, *(inner for inner in outer.values() if isinstance(inner, Mapping))):
            kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
            original = rope.get("original_max_position_embeddings")
            if kind not in (None, "default") and isinstance(factor, int | float) and isfinite(factor):
                yield int((original if isinstance(original, int) else positions) * factor)
