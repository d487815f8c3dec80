"""Which weights OSFT protects: by `config.model_type`, never by the text of a path.

A target is a linear layer's weight of shape (out, in). A fused weight (Phi's `qkv_proj`) is several matrices stacked
by rows; each is a block with a subspace of its own, because single directions of one would otherwise leak into the
free space of another. Pure: needs no torch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, NamedTuple

from osftx.config import SubspaceKind
from osftx.errors import ConfigurationError

_BLOCK = r"(?:.*\.)?(?:layers|h)\.\d+\."
_LLAMA = _BLOCK + r"(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"

FAMILIES: dict[str, str] = {
    **dict.fromkeys(
        ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite", "olmo2"], _LLAMA
    ),
    "phi3": _BLOCK + r"(?:self_attn\.(?:qkv_proj|o_proj)|mlp\.(?:gate_up_proj|down_proj))",
    "opt": _BLOCK + r"(?:self_attn\.(?:q|k|v|out)_proj|fc1|fc2)",
}
"""Regular expression over whole module names, by transformers' `config.model_type`."""


@dataclass(frozen=True)
class Target:
    """A linear layer whose weight is protected."""

    name: str
    """Module name; its weight is `<name>.weight`."""
    blocks: tuple[tuple[int, int], ...]
    """Shape (out, in) of each matrix stacked in the weight; one, unless the weight is fused."""

    @property
    def in_features(self) -> int:
        return self.blocks[0][1]


class UpdateShape(NamedTuple):
    """The trainable update of (a block of) a target's weight."""

    name: str
    shape: tuple[int, int]
    """(out, in) of the matrix."""
    on_input: bool
    """Whether its free directions are input directions; output directions otherwise."""
    free_rank: int

    @property
    def trainable_numbers(self) -> int:
        """What the optimizer sees: the other side times the free rank."""
        return self.shape[0 if self.on_input else 1] * self.free_rank


def update_shapes(target: Target, ratio: float, subspace: SubspaceKind) -> list[UpdateShape]:
    """The updates of one target at an unfreeze ratio, in the order of the weight's rows.

    By weights, each block frees directions of its short side; by activations, the input directions are what counts,
    and all blocks of a fused weight read the same ones.
    """
    if subspace is SubspaceKind.activations:
        shape = (sum(rows for rows, _ in target.blocks), target.in_features)
        return [UpdateShape(target.name, shape, True, shape[1] - frozen_rank(shape[1], ratio))]
    fused = len(target.blocks) > 1
    return [
        UpdateShape(
            f"{target.name}[{index}]" if fused else target.name,
            shape,
            shape[0] >= shape[1],
            min(shape) - frozen_rank(min(shape), ratio),
        )
        for index, shape in enumerate(target.blocks)
    ]


def frozen_rank(directions: int, ratio: float) -> int:
    """Directions kept, `k = floor(d * (1 - ratio))` of d; `d - k` are free.

    The small term undoes binary rounding: 10 * (1 - 0.7) must be 3.
    """
    return min(directions, floor(directions * (1.0 - ratio) + 1e-9))


def find_targets(
    config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], patterns: Sequence[str] | None
) -> list[Target]:
    """The targets among a model's weights, in the order of `shapes`.

    `config` is the model's config.json, `shapes` maps tensor names to shapes, `patterns` overrides the family's
    table. Raises ConfigurationError when the family is unknown, a pattern matches nothing, or a match is no matrix.
    """
    model_type = config.get("model_type", "")
    if patterns is None:
        if model_type not in FAMILIES:
            raise ConfigurationError(
                [
                    f"model_type={model_type!r}: no targets are known for this family (known: "
                    f"{', '.join(sorted(FAMILIES))}); name them: osft.target_patterns=['.*_proj']"
                ]
            )
        patterns = [FAMILIES[model_type]]
    modules = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
    chosen: set[str] = set()
    matrix = next(
        (name for name in modules if len(shapes[f"{name}.weight"]) == 2 and ".0." in name), "model.layers.0.mlp"
    )
    problems = []
    for pattern in patterns:
        matched = [name for name in modules if re.fullmatch(pattern, name)]
        if not matched:
            problems.append(
                f"osft.target_patterns: {pattern!r} matches no weight; it must match a whole module name such as "
                f"{matrix!r}"
            )
        flat = [name for name in matched if len(shapes[f"{name}.weight"]) != 2]
        problems += [
            f"osft.target_patterns: {name!r} has a weight of shape {tuple(shapes[f'{name}.weight'])}; "
            "only matrices have singular directions, narrow the pattern"
            for name in flat
        ]
        chosen.update(matched)
    if problems:
        raise ConfigurationError(problems)
    return [Target(name, _blocks(config, name, shapes[f"{name}.weight"])) for name in modules if name in chosen]


def _blocks(config: Mapping[str, Any], name: str, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    rows, columns = shape
    if name.endswith("qkv_proj"):
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        key_value = head * (config.get("num_key_value_heads") or heads)
        sizes = [rows - 2 * key_value, key_value, key_value]
    elif name.endswith("gate_up_proj"):
        sizes = [rows // 2, rows - rows // 2]
    else:
        sizes = [rows]
    return tuple((size, columns) for size in sizes)
