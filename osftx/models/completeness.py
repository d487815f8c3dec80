"""Compares the tensors of a model's files with the model that transformers builds from its config.

transformers fills what no tensor fills with random numbers, and leaves out tensors that it has no place for. It only
prints a report about both.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from osftx.models.weight_names import Place, as_stored, places

Shape = tuple[int, ...]
_OLD_BUFFERS = (r"rotary_emb\.inv_freq$", r"(^|\.)position_ids$")
"""Tensors of older files that transformers computes by itself today and ignores, whatever the model."""
_SHOWN = 3


def empty_model(folder: Path) -> PreTrainedModel:
    """Returns the model that transformers builds from the config in `folder`, without memory for its weights."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, attn_implementation="eager"))


def check_complete(model: PreTrainedModel, shapes: Mapping[str, Shape], folder: Path) -> None:
    """Raises ValueError unless the tensors with these `shapes` are exactly what fills `model`.

    `folder` is that of the files, for the message. A message about missing tensors also shows those that have no place,
    because often the same tensors have wrong names.
    """
    at = places(model, shapes)
    state = model.state_dict(keep_vars=True)
    faults = [
        _sentence(sorted(_unfilled(model, at, state)), "missing from", "transformers would begin with random numbers"),
        _sentence(
            sorted(_unused(model, at, state)), "without a place in the model, though in", "they would not be trained"
        ),
        _sentence(list(_misshapen(model, at, shapes, state)), "of another shape than in the model, in", None),
    ]
    if found := [fault for fault in faults if fault]:
        raise ValueError(
            f"{folder}: {'; '.join(found)}; correct config.json (tie_word_embeddings, vocab_size, architectures, the "
            "number of layers) if it does not belong to these files, else save the model again with transformers' "
            "save_pretrained"
        )


def _sentence(names: Sequence[str], where: str, effect: str | None) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    count = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{count} {where} the files: {shown}" + (f" ({effect})" if effect else "")


def _unfilled(model: nn.Module, at: Mapping[str, Place], state: Mapping[str, Tensor]) -> Iterator[str]:
    """Yields the parameters and saved buffers that no tensor fills, and the missing parts of combined parameters.

    Tied parameters are one; each is filled if a tensor fills it under any of its names.
    """
    filled = {place.parameter for place in at.values()}
    tensors = {id(state[name]) for name in filled if name in state}
    yield from (name for name, tensor in state.items() if id(tensor) not in tensors)
    for parameter, parts in combined(at).items():
        expected = parts_of(model, parameter, state)
        if parts < expected.keys():
            yield from expected.keys() - parts


def _unused(model: PreTrainedModel, at: Mapping[str, Place], state: Mapping[str, Tensor]) -> Iterator[str]:
    """Yields the tensors that have no place in the model, and that transformers does not know as left-overs."""
    computed = {name for name, _ in model.named_buffers()}
    patterns = [*(model._keys_to_ignore_on_load_unexpected or ()), *_OLD_BUFFERS]
    for name, place in at.items():
        if place.parameter in state or place.parameter in computed:
            continue
        if not any(re.search(pattern, place.parameter) for pattern in patterns):
            yield name


def _misshapen(
    model: nn.Module, at: Mapping[str, Place], shapes: Mapping[str, Shape], state: Mapping[str, Tensor]
) -> Iterator[str]:
    """Yields a text for each tensor that has not the shape that the model wants."""
    whole = ((name, place.parameter) for name, place in at.items() if place.whole and place.parameter in state)
    wanted = {name: whole_shape(state[parameter]) for name, parameter in whole}
    for parameter in combined(at):
        wanted |= {name: tuple(part.shape) for name, part in parts_of(model, parameter, state).items()}
    for name, shape in wanted.items():
        if name in shapes and shapes[name] != shape:
            yield f"{name} {list(shapes[name])} instead of {list(shape)}"


def combined(at: Mapping[str, Place]) -> dict[str, set[str]]:
    """Returns the tensors that belong to each parameter that transformers combines of tensors or converts."""
    parts: dict[str, set[str]] = defaultdict(set)
    for name, place in at.items():
        if not place.whole:
            parts[place.parameter].add(name)
    return dict(parts)


def parts_of(model: nn.Module, parameter: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors, without content, that a combined `parameter` of the model has in files."""
    if parameter not in state:
        return {}
    return as_stored(model, parameter, torch.empty(whole_shape(state[parameter]), device="meta"))


def whole_shape(tensor: Tensor) -> Shape:
    """Returns the shape of a tensor of the model; a parameter that ZeRO-3 partitions has an attribute for it."""
    return tuple(getattr(tensor, "ds_shape", tensor.shape))
