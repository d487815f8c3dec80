"""Checks that a model's config.json and the shapes of its tensors belong together. Needs no torch.

The launching process sees only names and shapes, so it finds what is wrong in any model: a table of embeddings of
another size, a missing head, a layer that lacks a tensor. The ranks compare every tensor with the model that
transformers builds (`models.completeness`).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from osftx.errors import ConfigurationError
from osftx.models.families import DECODER_LAYER, FAMILIES
from osftx.models.files import ModelFiles, embeddings

_WRAPPED = re.compile(
    r"(?:module|base_model\.model)\.|(?:.*\.)?_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module|forward_module)\."
)
"""Beginning of the names of tensors that were saved within DDP, peft, torch.compile, FSDP or DeepSpeed."""
_HEADS = ("lm_head.weight", "embed_out.weight")
_IN_LAYER = re.compile(rf"({DECODER_LAYER})\.(.+)")
_COMPUTED = "rotary_emb.inv_freq"
"""Ending of a tensor of older files, which transformers computes by itself today."""
_AGAIN = "save the model again with transformers' save_pretrained"


def check_structure(files: ModelFiles, path: str, trust_remote_code: bool, key: str = "model.path") -> None:
    """Raises ConfigurationError if the tensors in `files` cannot be those of the model that config.json describes.

    `key` is the setting with the model's `path`. A model that runs code of its own is left to the ranks.
    """
    if trust_remote_code and "AutoModelForCausalLM" in (files.config.get("auto_map") or {}):
        return
    problems = [*_wrapped(files), *_sizes(files), *_no_head(files), *_layers(files)]
    if problems:
        raise ConfigurationError([f"{key}={path}: {problem}" for problem in problems])


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the part of config.json that describes the language model; a model of several parts nests it."""
    return config.get("text_config") or config


def tied(config: Mapping[str, Any]) -> bool | None:
    """Returns whether config.json ties the head to the embeddings; None if it does not say, or contradicts itself."""
    said = {part.get("tie_word_embeddings") for part in (config, text_config(config))} - {None}
    return bool(said.pop()) if len(said) == 1 else None


def head(files: ModelFiles) -> str | None:
    """Returns the name of the head's tensor, found by its usual names; None if none of these exists."""
    return next((name for name, shape in files.shapes.items() if name.endswith(_HEADS) and len(shape) == 2), None)


def _wrapped(files: ModelFiles) -> Iterator[str]:
    found = next((match for name in files.shapes if (match := _WRAPPED.match(name))), None)
    if found is not None:
        yield (
            f"its tensors have names such as {found.string}, which a wrapper of the model has lengthened; remove "
            f"{found[0]!r} from the names, or save the model without the wrapper (save_pretrained)"
        )


def _sizes(files: ModelFiles) -> Iterator[str]:
    """Yields tables with another number of rows or columns than config.json says. A family that is not known may have
    further rows in one of its tables."""
    config, table = text_config(files.config), embeddings(files)
    known = files.config.get("model_type") in FAMILIES
    rows = config.get("vocab_size")
    tables = [name for name in (table, head(files)) if name is not None]
    wrong = [name for name in tables if isinstance(rows, int) and files.shapes[name][0] != rows]
    if wrong and (known or wrong == tables):
        found = files.shapes[wrong[0]][0]
        yield (
            f"config.json has vocab_size={rows}, but {wrong[0]} has {found} rows; set vocab_size to {found} if these "
            "are all tokens of the model, or resize its token embeddings to the right number and save it again"
        )
    width = config.get("word_embed_proj_dim") or config.get("hidden_size") or config.get("n_embd")
    if known and table is not None and isinstance(width, int) and files.shapes[table][1] != width:
        yield f"config.json has a hidden size of {width}, but {table} has {files.shapes[table][1]} columns; {_AGAIN}"


def _no_head(files: ModelFiles) -> Iterator[str]:
    """Yields a problem if config.json wants a head of its own, and no matrix has the rows for one."""
    table = embeddings(files)
    if tied(files.config) is not False or table is None or head(files) is not None:
        return
    rows = files.shapes[table][0]
    if not any(shape[0] == rows for name, shape in files.shapes.items() if len(shape) == 2 and name != table):
        yield (
            "config.json has tie_word_embeddings=false, but the files hold no head (lm_head.weight), and transformers "
            "would begin with a random one; set tie_word_embeddings to true if the head is the table of embeddings, "
            f"else {_AGAIN}"
        )


def _layers(files: ModelFiles) -> Iterator[str]:
    """Yields what decoder layers lack. Of families that are not known, layers may differ."""
    if files.config.get("model_type") not in FAMILIES:
        return
    config = text_config(files.config)
    count = config.get("num_hidden_layers", config.get("n_layer"))
    for stack, layers in _stacks(files).items():
        if "vision" not in stack and isinstance(count, int) and layers.keys() != set(range(count)):
            yield (
                f"config.json has {count} layers, but the files hold {len(layers)} ({stack}.{min(layers)} to "
                f"{stack}.{max(layers)}); correct config.json, or {_AGAIN}"
            )
        for index, kinds in sorted(layers.items()):
            fuller = next((other for other, more in sorted(layers.items()) if kinds < more), None)
            if fuller is not None:
                lacking = min(layers[fuller] - kinds)
                yield (
                    f"{stack}.{index}.{lacking} is missing, though {stack}.{fuller} has one, and transformers would "
                    f"begin with random numbers; {_AGAIN}"
                )


def _stacks(files: ModelFiles) -> dict[str, dict[int, set[str]]]:
    """Returns the kinds of tensors of each layer, by the name of the stack such as `model.layers`, and index."""
    stacks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in files.shapes:
        if (found := _IN_LAYER.fullmatch(name)) and not name.endswith(_COMPUTED):
            stack, _, index = found[1].rpartition(".")
            stacks[stack][int(index)].add(found[2])
    return stacks
