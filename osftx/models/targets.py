"""Finds the weights that OSFT protects, by `config.model_type`, never by the text of a path.

A target is a linear layer's weight of shape (out, in). A fused weight (such as Phi's `qkv_proj`) consists of several
matrices stacked by rows. Each matrix is a block with its own subspace, because single directions of one block would
otherwise leak into the trainable subspace of another. The module is pure and needs no torch.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osftx.errors import ConfigurationError
from osftx.models.families import DECODER_LAYER, FAMILIES, NOT_LINEAR, TRANSPOSED

_IN_LAYER = rf"{DECODER_LAYER}\."


@dataclass(frozen=True)
class Target:
    """A linear layer whose weight is protected."""

    name: str
    """Name of the module; its weight is `<name>.weight`."""
    blocks: tuple[tuple[int, int], ...]
    """Shape (out, in) of each matrix that is stacked in the weight; only one unless the weight is fused."""
    transposed: bool = False
    """Whether the files hold the weight as (in, out)."""

    @property
    def in_features(self) -> int:
        return self.blocks[0][1]

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Shape (out, in) of the whole weight."""
        return sum(rows for rows, _ in self.blocks), self.in_features


def find_targets(
    config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], patterns: Sequence[str] | None
) -> list[Target]:
    """Returns the targets among a model's weights, in the order of `shapes`.

    `config` is the model's config.json, `shapes` maps tensor names to shapes, and `patterns` overrides the family's
    table. In an unknown family every matrix of the decoder blocks that looks like a linear layer is a target. Raises
    ConfigurationError if nothing is found, if a pattern matches nothing or is not a regular expression, or if a match
    is not a matrix.
    """
    modules = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
    family = config.get("model_type", "")
    if patterns is None and family not in FAMILIES:
        chosen = {name for name in modules if len(shapes[f"{name}.weight"]) == 2 and _looks_linear(name)}
        if not chosen:
            raise ConfigurationError(
                [
                    f"model_type={family!r}: this family is not known (known: {', '.join(sorted(FAMILIES))}), and no "
                    "matrix of it lies in a decoder block (layers.N, h.N, blocks.N); name the weights to protect: "
                    "osft.target_patterns=['.*_proj']"
                ]
            )
    else:
        chosen = _matched(modules, shapes, [FAMILIES[family]] if patterns is None else patterns)
    transposed = family in TRANSPOSED
    found = []
    for name in modules:
        if name in chosen:
            rows, columns = shapes[f"{name}.weight"]
            shape = (columns, rows) if transposed else (rows, columns)
            found.append(Target(name, _blocks(config, name, shape), transposed))
    return found


def of_unknown_family(config: Mapping[str, Any], targets: Sequence[Target]) -> str:
    """Returns the message for a model whose family is not in the table; `targets` are the layers that were chosen."""
    return (
        f"model_type={config.get('model_type', '')!r}: this family is not known and was not tested; protected are the "
        f"matrices of its decoder blocks: {kinds(target.name for target in targets)}; others: osft.target_patterns"
    )


def left_out(shapes: Mapping[str, Sequence[int]], targets: Sequence[Target]) -> list[str]:
    """Returns the matrices of the decoder blocks that are not targets: routers and experts, including stacked ones."""
    protected = {f"{target.name}.weight" for target in targets}
    return [
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name not in protected
        and len(shape) in (2, 3)
        and re.match(_IN_LAYER, name)
        and not name.endswith(("bias", "norm.weight"))
    ]


def kinds(names: Iterable[str]) -> str:
    """Returns module names counted over the decoder blocks.

    The result is a text such as `self_attn.q_proj x 32, mlp.experts.N.up_proj x 256`.
    """
    counted = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "N", re.sub(_IN_LAYER, "", name, count=1)) for name in names)
    return ", ".join(f"{kind} x {count}" for kind, count in counted.items())


def _looks_linear(name: str) -> bool:
    return re.match(_IN_LAYER, name) is not None and NOT_LINEAR.fullmatch(name) is None


def _matched(modules: Sequence[str], shapes: Mapping[str, Sequence[int]], patterns: Sequence[str]) -> set[str]:
    chosen: set[str] = set()
    matrix = next(
        (name for name in modules if len(shapes[f"{name}.weight"]) == 2 and ".0." in name), "model.layers.0.mlp"
    )
    problems = []
    for pattern in patterns:
        try:
            matched = [name for name in modules if re.fullmatch(pattern, name)]
        except re.error as error:
            problems.append(f"osft.target_patterns: {pattern!r} is no regular expression ({error}); correct it")
            continue
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
    return chosen


def _blocks(config: Mapping[str, Any], name: str, shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Returns the shapes of the matrices that are stacked in a weight of `shape` (out, in)."""
    rows, columns = shape
    if name.endswith("qkv_proj"):
        sizes = _query_key_value(config, rows)
    elif name.endswith("gate_up_proj"):
        sizes = [rows // 2, rows - rows // 2]
    elif name.endswith("attn.c_attn") and rows == 3 * columns:  # otherwise heads share keys and values
        sizes = [columns] * 3
    else:
        sizes = [rows]
    return tuple((size, columns) for size in sizes)


def _query_key_value(config: Mapping[str, Any], rows: int) -> list[int]:
    """Returns the numbers of rows of query, key and value in a fused weight.

    If the config does not say how an unknown family stacks them, all `rows` are one matrix.
    """
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    groups = config.get("num_key_value_heads") or heads
    if not isinstance(heads, int) or not isinstance(groups, int):
        return [rows]
    head = config.get("head_dim") or (hidden or 0) // heads
    sizes = [heads * head, groups * head, groups * head]
    return sizes if head and sum(sizes) == rows else [rows]
