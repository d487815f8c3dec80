"""Which weights OSFT protects: by `config.model_type`, never by the text of a path.

A target is a linear layer's weight of shape (out, in). A fused weight (Phi's `qkv_proj`) is several matrices stacked
by rows; each is a block with a subspace of its own, because single directions of one would otherwise leak into the
free space of another. Pure: needs no torch.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, NamedTuple

from osftx.config import SubspaceKind
from osftx.errors import ConfigurationError

TENSOR_CORES = 8
"""Numbers of 16 bits to which the rows of a matrix must be aligned, 16 bytes, for a GPU's fast kernels."""
_BLOCK = r"(?:.*\.)?(?:layers|h|blocks)\.\d+\."
_ATTENTION = r"self_attn\.[qkvo]_proj"
_LLAMA = rf"{_BLOCK}(?:{_ATTENTION}|mlp\.(?:gate|up|down)_proj)"

FAMILIES: dict[str, str] = {
    **dict.fromkeys(
        ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite", "olmo2"], _LLAMA
    ),
    "gemma3": rf"(?!.*vision_tower){_LLAMA}",
    "phi3": rf"{_BLOCK}(?:self_attn\.(?:qkv_proj|o_proj)|mlp\.(?:gate_up_proj|down_proj))",
    "opt": rf"{_BLOCK}(?:self_attn\.(?:q|k|v|out)_proj|fc1|fc2)",
    "gpt2": rf"{_BLOCK}(?:attn\.(?:c_attn|c_proj)|mlp\.(?:c_fc|c_proj))",
    # Mixtures of experts: what every token runs through.
    **dict.fromkeys(["mixtral", "gpt_oss"], rf"{_BLOCK}{_ATTENTION}"),
    "qwen3_moe": _LLAMA,
    "qwen2_moe": rf"{_BLOCK}(?:{_ATTENTION}|mlp\.(?:shared_expert\.)?(?:gate|up|down)_proj)",
}
"""Regular expression over whole module names, by transformers' `config.model_type`."""
TRANSPOSED = ("gpt2",)
"""Families whose linear layers are transformers' Conv1D: their files hold (in, out)."""
_NO_LAYER = re.compile(
    r".*(?:^|\.)(?:gate|router|experts|\w*embed\w*|\w*norm\w*|vision\w*|visual|audio\w*|\w*bias|\w+_gate)(?:\.|$).*"
)
"""Of an unknown family, matrices that are routers, experts, tables, or not of the text."""


@dataclass(frozen=True)
class Target:
    """A linear layer whose weight is protected."""

    name: str
    """Module name; its weight is `<name>.weight`."""
    blocks: tuple[tuple[int, int], ...]
    """Shape (out, in) of each matrix stacked in the weight; one, unless the weight is fused."""
    transposed: bool = False
    """Whether the files hold the weight as (in, out)."""

    @property
    def in_features(self) -> int:
        return self.blocks[0][1]

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(out, in) of the whole weight."""
        return sum(rows for rows, _ in self.blocks), self.in_features


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
        """The other side times the free rank, without what `stored_columns` fills up."""
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


def stored_columns(free_rank: int, number_bytes: int) -> int:
    """Columns in which a free rank is held, in numbers of this size: of 16 bits, a multiple of `TENSOR_CORES`.

    What is filled up is zero and stays so: no direction, no gradient, no step. Without it `delta`'s gradient took an
    H200 several times what its operations ask for (experiments/performance).
    """
    aligned = TENSOR_CORES if number_bytes == 2 else 1
    return -(-free_rank // aligned) * aligned


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
    table. Of an unknown family every matrix of the decoder blocks that looks like a linear layer is one. Raises
    ConfigurationError when nothing is found, a pattern matches nothing or is none, or a match is no matrix.
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
    """What to tell a user whose model's family is not in the table; `targets` is what was chosen."""
    return (
        f"model_type={config.get('model_type', '')!r}: this family is not known and was not tested; protected are the "
        f"matrices of its decoder blocks: {kinds(target.name for target in targets)}; others: osft.target_patterns"
    )


def left_out(shapes: Mapping[str, Sequence[int]], targets: Sequence[Target]) -> list[str]:
    """Matrices of the decoder blocks that are no targets: routers, experts (stacked ones too)."""
    protected = {f"{target.name}.weight" for target in targets}
    return [
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name not in protected
        and len(shape) in (2, 3)
        and re.match(_BLOCK, name)
        and not name.endswith(("bias", "norm.weight"))
    ]


def kinds(names: Iterable[str]) -> str:
    """Module names counted over the decoder blocks, such as `self_attn.q_proj x 32, mlp.experts.N.up_proj x 256`."""
    counted = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "N", re.sub(_BLOCK, "", name, count=1)) for name in names)
    return ", ".join(f"{kind} x {count}" for kind, count in counted.items())


def _looks_linear(name: str) -> bool:
    return re.match(_BLOCK, name) is not None and _NO_LAYER.fullmatch(name) is None


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
    """The matrices stacked in a weight of `shape` (out, in)."""
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
    """Rows of each, or all `rows` as one where the config does not say how an unknown family stacks them."""
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    groups = config.get("num_key_value_heads") or heads
    if not isinstance(heads, int) or not isinstance(groups, int):
        return [rows]
    head = config.get("head_dim") or (hidden or 0) // heads
    sizes = [heads * head, groups * head, groups * head]
    return sizes if head and sum(sizes) == rows else [rows]
