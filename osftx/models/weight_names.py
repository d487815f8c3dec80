"""Which parameter of a model each tensor of its files becomes.

transformers renames tensors of some models while it reads them, adds or removes the prefix of the base model, and puts
the experts of a layer, which lie in the files one by one, together into one parameter.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from osftx.models.targets import Target


class Place(NamedTuple):
    """Where a tensor of the files goes."""

    parameter: str
    """Its name in the model; one that the model does not have where it has no use for the tensor."""
    whole: bool
    """Whether the tensor is the parameter as it is, not a part of it or converted."""


def places(model: nn.Module, stored: Iterable[str]) -> dict[str, Place]:
    """The place of each tensor that is `stored`, by its name in the files."""
    transforms = get_model_conversion_mapping(cast(PreTrainedModel, model))
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    known = dict(model.named_parameters(remove_duplicate=False))
    prefix = getattr(model, "base_model_prefix", None)
    found = {}
    for name in stored:
        parameter, converted = rename_source_key(name, renamings, converters, prefix, known)
        found[name] = Place(parameter, converted is None)
    return found


def stored_whole(model: nn.Module, stored: Iterable[str]) -> dict[str, str]:
    """By parameter, the tensor of the files that it is; without those that are made of several, or converted."""
    return {place.parameter: name for name, place in places(model, stored).items() if place.whole}


def as_stored(model: nn.Module, parameter: str, value: Tensor) -> dict[str, Tensor]:
    """The tensors of the files, by name, that together become `parameter` with `value`."""
    return dict(revert_weight_conversion(cast(PreTrainedModel, model), {parameter: value}))


def named_as_in_model(model: nn.Module, targets: Sequence[Target]) -> list[Target]:
    """`targets`, which are named as in the files, under the names of the model's own modules."""
    found = places(model, [f"{target.name}.weight" for target in targets]).values()
    return [
        replace(target, name=place.parameter.removesuffix(".weight"))
        for target, place in zip(targets, found, strict=True)
    ]


def named_otherwise(model: nn.Module, stored: Iterable[str], modules: Iterable[str]) -> dict[str, str]:
    """Of `modules` whose weights the files, with the tensors `stored`, name otherwise: the module's name there."""
    tensors = stored_whole(model, stored)
    names = {module: tensors.get(f"{module}.weight", module).removesuffix(".weight") for module in modules}
    return {module: name for module, name in names.items() if name != module}


def lost(model: nn.Module, stored: Iterable[str]) -> list[str]:
    """The trained parameters that cannot be put back into files which hold the tensors `stored`, by their names."""
    at = places(model, stored)
    parts: dict[str, set[str]] = defaultdict(set)
    for name, place in at.items():
        parts[place.parameter].add(name)
    missing = []
    for names, parameter in _trained(model):
        read = next((name for name in names if name in parts), None)
        if read is None:
            missing.append(names[0])
        elif not all(at[part].whole for part in parts[read]):
            shape = getattr(parameter, "ds_shape", parameter.shape)
            if as_stored(model, read, torch.empty(shape, device="meta")).keys() != parts[read]:
                missing.append(read)
    return missing


def _trained(model: nn.Module) -> list[tuple[list[str], nn.Parameter]]:
    """Parameters that are trained, beside the updates; tied ones have several names."""
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and ".updates." not in name:
            names[parameter].append(name)
    return [(known, parameter) for parameter, known in names.items()]
