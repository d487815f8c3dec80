"""Writes a plain Hugging Face folder: the files of the start model, tensor by tensor, with the trained ones replaced.

Frozen tensors are copied from the source file, and cast only where `save_dtype` is not their precision. A target is
saved as it was trained, bit for bit where `save_dtype` is the precision of training; where `save_dtype` is finer, the
update is added in fp32 to the value in the source file. No rank holds more than two full weights and one file.
"""

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from osftx.distributed.zero3 import full_master, gathered, set_parameter
from osftx.methods.osft.decomposition import leak
from osftx.methods.osft.layer import dense_update
from osftx.methods.osft.setup import Subspace
from osftx.models.files import MODEL_FILES, tensor_files
from osftx.models.weight_names import Place, as_stored, places
from osftx.utils.files import write_text
from osftx.utils.progress import progress


def export(
    model: nn.Module,
    subspaces: Sequence[Subspace],
    source: Path,
    folder: Path,
    save_dtype: torch.dtype,
    turned: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Writes the trained model to `folder`, and sets the partitioned `model` to what was written. Collective.

    `source` is the folder of the start model, and `turned` names the parameters that its files hold transposed. The
    folder appears whole or not at all.

    Returns, on rank 0, a dictionary for each subspace:
    `name`, `shape`, `frozen_rank` and `free_rank`;
    `relative_change`: ||dW|| / ||W0||, None for a weight of zeros;
    `leak_fp32`: the leak of the update as it was trained;
    `leak_saved`: the leak of the difference between the saved weight and W0;
    `update_norm`: ||dW||;
    `update_kept`: <saved - W0, dW> / ||dW||^2, which is 1 where nothing was rounded away, None without an update;
    `free_input_share`: see `KeptUse`;
    `kept_output_change`: see `_kept_output_change`.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    by_weight: dict[str, list[Subspace]] = defaultdict(list)
    for space in subspaces:
        by_weight[space.weight_name].append(space)
    by_file: dict[Path, list[str]] = defaultdict(list)
    files = tensor_files(source)
    at = places(model, files)
    for name, path in files.items():
        by_file[path].append(name)
    partial = folder.with_name(folder.name + ".partial")
    writes = dist.get_rank() == 0
    if writes:
        _copy_companions(source, partial, save_dtype)

    kept: list[dict[str, Any]] = []
    parts: dict[str, dict[str, Tensor]] = {}  # of trained parameters, until they are written
    with progress("saving", sum(map(len, by_file.values())), "tensors") as bar, torch.no_grad():
        for path, names in by_file.items():
            tensors = {}
            with safe_open(path, framework="pt") as stored:
                for name in names:
                    saved = stored.get_tensor(name) if writes else None
                    parameter = at[name].parameter
                    if parameter in by_weight:
                        saved = _merge(_turn(saved, parameter in turned), by_weight[parameter], save_dtype, kept)
                        set_parameter(parameters[parameter], saved)
                        saved = _turn(saved, parameter in turned)
                    elif parameter in parameters and parameters[parameter].requires_grad:
                        if parameter not in parts:
                            value = full_master(parameters[parameter]).to("cpu", save_dtype)
                            set_parameter(parameters[parameter], value)
                            parts[parameter] = _parts(model, name, at[name], value, parameter in turned)
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
    return kept


def _merge(
    before: Tensor | None, blocks: Sequence[Subspace], save_dtype: torch.dtype, kept: list[dict[str, Any]]
) -> Tensor | None:
    """Returns W0 + dW on the rank that has W0 (`before`), None on the others; appends to `kept`. Collective."""
    updates = [(space, space.bases(), full_master(space.update.delta)) for space in blocks]
    after = _as_trained(blocks[0].weight)
    if before is None or after is None:
        return None
    finer = torch.finfo(save_dtype).eps < torch.finfo(after.dtype).eps
    after = before.to(after.device, torch.float32, copy=True) if finer else after.to(save_dtype)
    for space, bases, held in updates:
        delta = held[:, : bases.free.shape[1]]
        old = before[space.rows].to(delta.device, torch.float32)
        trained = dense_update(space.update.on_input, bases.free, delta)
        if finer:
            after[space.rows] += trained
        saved = after[space.rows].to(save_dtype).float()
        norm, moved = float(torch.linalg.norm(old)), float(torch.linalg.norm(trained))
        kept.append(
            {
                "name": space.name,
                "shape": list(space.update.shape),
                "frozen_rank": bases.frozen_rank,
                "free_rank": bases.free.shape[1],
                "relative_change": moved / norm if norm else None,
                "leak_fp32": leak(trained, bases),
                "leak_saved": leak(saved - old, bases),
                "update_norm": moved,
                "update_kept": float(((saved - old) * trained).sum()) / moved**2 if moved else None,
                "free_input_share": space.kept.free_input_share if space.kept is not None else None,
                "kept_output_change": _kept_output_change(space, delta),
            }
        )
    return after.to("cpu", save_dtype)


def _parts(model: nn.Module, name: str, place: Place, value: Tensor, turned: bool) -> dict[str, Tensor]:
    """Returns the tensors of the files that hold a trained parameter's `value`; `name` is one of them."""
    if not place.whole:
        return as_stored(model, place.parameter, value)
    return {name: value.T if turned else value}


def _turn(value: Tensor | None, turned: bool) -> Tensor | None:
    return value.T if value is not None and turned else value


def _as_trained(weight: nn.Parameter) -> Tensor | None:
    """Returns the whole weight on rank 0, None on the others. Collective."""
    with gathered(weight):
        return weight.detach().clone() if dist.get_rank() == 0 else None


def _kept_output_change(space: Subspace, delta: Tensor) -> float | None:
    """Returns sqrt(E ||dW x||^2 / E ||W0 x||^2) over the kept inputs x: the relative change of the layer's output.

    dW = delta F^T, where F are the free directions, so the numerator is tr(delta (F^T E[x x^T] F) delta^T).
    Returns None where the weight has chosen the directions, or where the layer's output on those inputs is zero.
    """
    if space.kept is None or space.kept.output_power == 0:
        return None
    moved = (delta @ space.energy.to(delta.device) * delta).sum()
    return math.sqrt(max(float(moved), 0.0) / space.kept.output_power)


def _copy_companions(source: Path, folder: Path, save_dtype: torch.dtype) -> None:
    """Copies everything beside the weights: config, generation config, tokenizer, chat template."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for pattern in MODEL_FILES:
        for path in source.glob(pattern):
            if path.suffix != ".safetensors":
                copy = folder / path.relative_to(source)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)  # the older name of the same key
    config["dtype"] = str(save_dtype).removeprefix("torch.")
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")  # a model may have infinite settings
