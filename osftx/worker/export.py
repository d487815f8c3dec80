"""Write a plain Hugging Face folder: the source's files, tensor by tensor, with the trained ones replaced.

Frozen tensors are copied from the source file, cast only where `save_dtype` is another precision than theirs. A weight
that the method replaces is what `OpenedPhase.merged` returns. No rank holds more than two full weights and one file.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from osftx.distributed.zero3 import full_master, set_parameter
from osftx.methods.base import OpenedPhase
from osftx.models.companions import companions
from osftx.models.files import tensor_files
from osftx.models.stop_tokens import GENERATION_CONFIG, with_stop_tokens
from osftx.models.weight_names import Place, as_stored, places
from osftx.utils.files import write_json, write_text
from osftx.utils.progress import progress


def export(
    model: nn.Module,
    opened: OpenedPhase,
    source: Path,
    folder: Path,
    save_dtype: torch.dtype,
    added_stop_tokens: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """Writes the trained model to `folder` and makes the partitioned `model` equal to what was written. Collective.

    Returns, on rank 0, the records of the weights that the method replaced (`Merged.records`). The folder appears whole
    or not at all. Its generation config gets the `added_stop_tokens` in addition to the source's.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        return _export(model, opened, source, folder, partial, save_dtype, added_stop_tokens)
    except Exception:
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _export(
    model: nn.Module,
    opened: OpenedPhase,
    source: Path,
    folder: Path,
    partial: Path,
    save_dtype: torch.dtype,
    added_stop_tokens: Sequence[int],
) -> list[dict[str, Any]]:
    """Writes the folder as `partial` first. See `export`."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    by_file: dict[Path, list[str]] = defaultdict(list)
    files = tensor_files(source)
    at = places(model, files)
    for name, path in files.items():
        by_file[path].append(name)
    writes = dist.get_rank() == 0
    if writes:
        _copy_companions(source, partial, save_dtype, added_stop_tokens)

    records: list[dict[str, Any]] = []
    parts: dict[str, dict[str, Tensor]] = {}  # of trained parameters, until they are written
    with progress("saving", sum(map(len, by_file.values())), "tensors") as bar, torch.no_grad():
        for path, names in by_file.items():
            tensors = {}
            with safe_open(path, framework="pt") as stored:
                for name in names:
                    saved = stored.get_tensor(name) if writes else None
                    parameter = at[name].parameter
                    turned = parameter in opened.source.turned
                    if parameter in opened.replaced:
                        merged = opened.merged(parameter, _turn(saved, turned), save_dtype)
                        records += merged.records
                        set_parameter(parameters[parameter], merged.value)
                        saved = _turn(merged.value, turned)
                    elif parameter in parameters and parameters[parameter].requires_grad:
                        if parameter not in parts:
                            value = full_master(parameters[parameter]).to("cpu", save_dtype)
                            set_parameter(parameters[parameter], value)
                            parts[parameter] = _parts(model, name, at[name], value, turned)
                        saved = parts[parameter].pop(name)
                    elif saved is not None and saved.is_floating_point():
                        saved = saved.to(save_dtype)
                    if saved is not None and writes:
                        tensors[name] = saved.contiguous()
                    bar.update()
            if writes:
                save_file(tensors, partial / path.name, {"format": "pt"})
    if writes:
        shutil.rmtree(folder, ignore_errors=True)  # of the same phase, run before
        partial.rename(folder)
    dist.barrier()
    return records


def _parts(model: nn.Module, name: str, place: Place, value: Tensor, turned: bool) -> dict[str, Tensor]:
    """Returns the tensors of the files that hold a trained parameter's `value`; `name` is one of them."""
    if not place.whole:
        return as_stored(model, place.parameter, value)
    return {name: value.T if turned else value}


def _turn(value: Tensor | None, turned: bool) -> Tensor | None:
    return value.T if value is not None and turned else value


def _copy_companions(source: Path, folder: Path, save_dtype: torch.dtype, added_stop_tokens: Sequence[int]) -> None:
    """Copies what belongs to the model beside the weights: config, generation config, tokenizer, chat template."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in companions(source):
        copy = folder / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)  # the older name of the same key
    config["dtype"] = str(save_dtype).removeprefix("torch.")
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")  # a model may have infinite settings
    if added_stop_tokens:
        write_json(folder / GENERATION_CONFIG, with_stop_tokens(source, added_stop_tokens))
