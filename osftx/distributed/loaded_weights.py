"""Compares a loaded model with the files that it was loaded from, on the ranks that hold its shards."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn

from osftx.distributed.partition import flat_range
from osftx.distributed.source_weights import flat_part
from osftx.distributed.zero3 import gathered, shard_of, whole_shape
from osftx.models.completeness import combined
from osftx.models.files import tensor_files
from osftx.models.weight_names import Place, as_stored, places


@dataclass
class _Findings:
    """The differences that one rank has found, or all ranks together."""

    different: set[str] = field(default_factory=set)
    """Tensors of the files that are not what was loaded."""
    not_finite: set[str] = field(default_factory=set)
    """Parameters with values that are NaN or infinite."""
    skipped: set[str] = field(default_factory=set)
    """Parameters that transformers makes of the tensors in a way that cannot be undone here."""


def check_loaded(model: nn.Module, folder: Path) -> None:
    """Raises ValueError on every rank if a weight of `model` is not what the files of `folder` hold. Collective.

    It must be called before anything of the model is replaced. Each rank compares its own shards, number by number,
    with the same part of the tensors, in the precision of the model. Parameters that transformers combines of several
    tensors, such as experts, are gathered one at a time and taken apart as for saving; the ranks take turns. The same
    error names weights with values that are NaN or infinite.
    """
    files = tensor_files(folder)
    at = places(model, files)
    found = _Findings()
    with torch.no_grad():
        _compare_whole(model, at, files, found)
        _compare_combined(model, at, files, found)
        for name, parameter in model.named_parameters():
            if not bool(torch.isfinite(_own_part(parameter)).all()):
                found.not_finite.add(name)
    _judge(_of_all_ranks(found), folder)


def _compare_whole(model: nn.Module, at: Mapping[str, Place], files: Mapping[str, Path], found: _Findings) -> None:
    """Compares the tensors that are whole parameters or buffers."""
    parameters, buffers = dict(model.named_parameters(remove_duplicate=False)), dict(model.named_buffers())
    rank, world_size = dist.get_rank(), dist.get_world_size()
    for name, tensor in _opened({name: path for name, path in files.items() if at[name].whole}):
        place = at[name].parameter
        if place in parameters:
            held = _own_part(parameters[place])
            first, last = flat_range(whole_shape(parameters[place]).numel(), rank, world_size)
        elif place in buffers:
            held, first, last = buffers[place].flatten(), 0, buffers[place].numel()
        else:
            continue  # transformers ignores it, too
        if not _same(held, flat_part(tensor, first, last)):
            found.different.add(name)


def _compare_combined(model: nn.Module, at: Mapping[str, Place], files: Mapping[str, Path], found: _Findings) -> None:
    """Compares the parameters that are combined of several tensors, or converted. Collective."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    turns = sorted((name, parts) for name, parts in combined(at).items() if name in parameters)
    for turn, (parameter, parts) in enumerate(turns):
        with gathered(parameters[parameter]):
            if turn % dist.get_world_size() != dist.get_rank():
                continue
            stored = as_stored(model, parameter, parameters[parameter].detach().cpu())
        if stored.keys() != parts:
            found.skipped.add(parameter)
            continue
        for name, tensor in _opened({name: files[name] for name in parts}):
            if not _same(stored[name].flatten(), flat_part(tensor, 0, stored[name].numel())):
                found.different.add(name)


def _opened(files: Mapping[str, Path]) -> Iterator[tuple[str, object]]:
    """Yields the tensors in `files` as slices of safetensors. Each file is opened once."""
    by_file: dict[Path, list[str]] = defaultdict(list)
    for name, path in files.items():
        by_file[path].append(name)
    for path, names in by_file.items():
        with safe_open(path, framework="pt") as file:
            for name in names:
                yield name, file.get_slice(name)


def _own_part(parameter: nn.Parameter) -> Tensor:
    """Returns this rank's shard of a parameter, without the padding."""
    first, last = flat_range(whole_shape(parameter).numel(), dist.get_rank(), dist.get_world_size())
    return shard_of(parameter)[: last - first]


def _same(held: Tensor, stored: Tensor) -> bool:
    """Returns whether `held` is what `stored` gives in its precision; NaN equals NaN, as it is told by itself."""
    expected = stored.to(held.dtype).to(held.device)
    if torch.equal(held, expected):
        return True
    return (
        held.shape == expected.shape
        and torch.equal(held.isnan(), expected.isnan())
        and torch.equal(held.nan_to_num(), expected.nan_to_num())
    )


def _of_all_ranks(found: _Findings) -> _Findings:
    """Returns what all ranks found, on every rank. Collective."""
    every: list[_Findings] = [found] * dist.get_world_size()
    dist.all_gather_object(every, found)
    return _Findings(
        set().union(*(one.different for one in every)),
        set().union(*(one.not_finite for one in every)),
        set().union(*(one.skipped for one in every)),
    )


def _judge(found: _Findings, folder: Path) -> None:
    """Raises ValueError for what must not be trained; prints what could not be compared."""
    problems = []
    if found.not_finite:
        problems.append(
            f"{_count(found.not_finite)} NaN or infinite values in the precision of training; give a model whose "
            "weights are finite, or train in a precision that holds them"
        )
    if found.different:
        problems.append(
            f"{_count(found.different)} other values in the files than in the model as transformers loaded it: the "
            "files were changed meanwhile, or they hold two versions of one weight (such as a head that config.json "
            "ties to the embeddings); save the model again with transformers' save_pretrained, then start again"
        )
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}")
    if found.skipped and dist.get_rank() == 0:
        print(
            f"{_count(found.skipped)} been converted by transformers and could not be compared with the files",
            flush=True,
        )


def _count(names: set[str]) -> str:
    """Returns the beginning of a sentence such as `2 weights, such as NAME, have`."""
    first = min(names)
    return f"{first} has" if len(names) == 1 else f"{len(names)} weights, such as {first}, have"
