"""Maps the tensors of a model's files to the parameters of the model.

transformers renames tensors of some models while it reads them, adds or removes the prefix of the base model, and
combines the experts of a layer, which are separate tensors in the files, into one parameter.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
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
    """The parameter that a tensor of the files belongs to."""

    parameter: str
    """Name of the parameter, or of the buffer, in the model. If the model does not use the tensor, it has none of this
    name."""
    whole: bool
    """Whether the tensor is the whole parameter, neither a part of it nor converted."""


def places(model: nn.Module, stored: Iterable[str]) -> dict[str, Place]:
    """Returns the place of each tensor in `stored`, by its name in the files."""
    transforms = get_model_conversion_mapping(cast(PreTrainedModel, model))
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    known = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    prefix = getattr(model, "base_model_prefix", None)
    found = {}
    for name in stored:
        parameter, converted = rename_source_key(name, renamings, converters, prefix, known)
        found[name] = Place(parameter, converted is None)
    return found


def stored_whole(model: nn.Module, stored: Iterable[str]) -> dict[str, str]:
    """Returns the name of the tensor in the files for each parameter that is exactly one tensor.

    Parameters that are combined from several tensors, or converted, are left out.
    """
    return {place.parameter: name for name, place in places(model, stored).items() if place.whole}


def as_stored(model: nn.Module, parameter: str, value: Tensor) -> dict[str, Tensor]:
    """Returns the tensors of the files, by name, that together give `parameter` the `value`."""
    return dict(revert_weight_conversion(cast(PreTrainedModel, model), {parameter: value}))


def named_as_in_model(model: nn.Module, targets: Sequence[Target]) -> list[Target]:
    """Returns the `targets`, which have their names in the files, with the names of the model's own modules."""
    found = places(model, [f"{target.name}.weight" for target in targets]).values()
    return [
        replace(target, name=place.parameter.removesuffix(".weight"))
        for target, place in zip(targets, found, strict=True)
    ]


def named_otherwise(model: nn.Module, stored: Iterable[str], modules: Iterable[str]) -> dict[str, str]:
    """Returns the names in the files of those `modules` that the files name differently.

    `stored` are the names of the tensors in the files. The result maps each such module to its name there.
    """
    tensors = stored_whole(model, stored)
    names = {module: tensors.get(f"{module}.weight", module).removesuffix(".weight") for module in modules}
    return {module: name for module, name in names.items() if name != module}


def lost(model: nn.Module, stored: Iterable[str], added: Collection[nn.Parameter] = ()) -> list[str]:
    """Returns the names of the trained parameters that cannot be written back to files with the tensors `stored`.

    `added` are parameters that the files need not take back.
    """
    at = places(model, stored)
    parts: dict[str, set[str]] = defaultdict(set)
    for name, place in at.items():
        parts[place.parameter].add(name)
    missing = []
    for names, parameter in _trained(model, {id(parameter) for parameter in added}):
        read = next((name for name in names if name in parts), None)
        if read is None:
            missing.append(names[0])
        elif not all(at[part].whole for part in parts[read]):
            shape = getattr(parameter, "ds_shape", parameter.shape)
            if as_stored(model, read, torch.empty(shape, device="meta")).keys() != parts[read]:
                missing.append(read)
    return missing


def _trained(model: nn.Module, without: set[int]) -> list[tuple[list[str], nn.Parameter]]:
    """Returns the trained parameters and all names of each; tied parameters have several.

    `without` holds the ids of parameters that are left out.
    """
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and id(parameter) not in without:
            names[parameter].append(name)
    return [(known, parameter) for parameter, known in names.items()]
