"""Finds the safetensors files that hold a model's weights, and tells what is unclear or incomplete about them.

A folder is read as transformers reads it: `model.safetensors` alone where it exists, else the files that
`model.safetensors.index.json` names. A folder in which that is not everything, or not certain, has a problem: the part
that transformers does not read would be lost or, worse, mixed with the part that it does.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_NUMBERED = re.compile(r"model(?:\.safetensors)?-\d+-of-\d+\.safetensors")
"""Names of the files into which transformers cuts a large model."""
_OF_RANKS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""Names of the files in which transformers saves a model that is distributed over processes. It reads them first."""
_AGAIN = "save the model again into an empty folder (transformers' save_pretrained)"


def weight_files(folder: Path) -> list[Path]:
    """Returns the files that transformers reads for the weights in `folder`, in its order.

    Raises OSError or ValueError if the folder has an index that cannot be read; without any weights it returns the
    usual file, which does not exist.
    """
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return [folder / SINGLE]
    return [folder / name for name in sorted(set(_weight_map(folder / INDEX).values()))]


def problem_of_files(folder: Path) -> str | None:
    """Returns what is wrong with the files of weights in `folder`, and the remedy; None if nothing is.

    It also returns None for an index that is not valid JSON.
    """
    single, index = (folder / SINGLE).is_file(), (folder / INDEX).is_file()
    if not single and not index:
        return _other_forms(folder)
    return _ambiguous(folder, single, index) or (_incomplete(folder / INDEX) if index else None)


def problem_of_names(folder: Path, config: Mapping[str, object]) -> str | None:
    """Returns a message if `config`, the model's config.json, names other files of weights than the usual ones."""
    named, usual = config.get("transformers_weights"), SINGLE if (folder / SINGLE).is_file() else INDEX
    if named in (None, usual):
        return None
    return f"config.json has transformers_weights={named!r}, but only {usual} is read; {_AGAIN}"


def problem_of_tensors(folder: Path, tensors: Mapping[Path, Sequence[str]]) -> str | None:
    """Returns what is wrong with the `tensors` that the files hold, and the remedy; None if nothing is.

    `tensors` holds the names of the tensors in each of the `weight_files`.
    """
    if (folder / SINGLE).is_file():
        return None
    found = Counter(name for names in tensors.values() for name in names)
    if several := sorted(name for name, count in found.items() if count > 1):
        holders = [path.name for path, names in tensors.items() if several[0] in names]
        return f"{several[0]} is held by {' and by '.join(holders)}; only one of them can be right: {_AGAIN}"
    named = _weight_map(folder / INDEX)
    if unnamed := sorted(found.keys() - named.keys()):
        holder = next(path.name for path, names in tensors.items() if unnamed[0] in names)
        return f"{unnamed[0]} is held by {holder}, but {INDEX} does not name it; {_AGAIN}"
    held = {(path.name, name) for path, names in tensors.items() for name in names}
    if lacking := sorted(name for name, file in named.items() if (file, name) not in held):
        return f"{lacking[0]} is not held by {named[lacking[0]]}, as {INDEX} says; download or {_AGAIN}"
    return None


def _weight_map(index: Path) -> dict[str, str]:
    return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])


def _other_forms(folder: Path) -> str | None:
    """Returns what else a folder holds that has no safetensors files of the usual names, and the remedy."""
    others = {
        "adapter_config.json": "an adapter without its model; merge it first (peft: AutoPeftModelForCausalLM"
        ".from_pretrained(folder).merge_and_unload().save_pretrained(new_folder)), put the tokenizer beside it, and "
        "start from there",
        "*.safetensors": f"holds safetensors files, but neither {SINGLE} nor {INDEX}, by which they are found; "
        f"download the missing one, or {_AGAIN}",
        "*.gguf": "holds GGUF files, which cannot be trained; give the model that they were made from, as a Hugging "
        "Face folder",
        "pytorch_model*.bin": "holds its weights as pytorch_model.bin alone; convert them (AutoModelForCausalLM"
        ".from_pretrained(folder).save_pretrained(new_folder)), put the tokenizer beside them, and start from there",
    }
    return next((reason for pattern, reason in others.items() if any(folder.glob(pattern))), None)


def _ambiguous(folder: Path, single: bool, index: bool) -> str | None:
    """Returns which files of a folder could pass for the weights beside those that transformers reads."""
    if single and index:
        return (
            f"holds both {SINGLE} and {INDEX}, and transformers reads the first alone; delete the one that is not the "
            f"model, or {_AGAIN}"
        )
    if (folder / "adapter_config.json").is_file():
        return (
            "holds an adapter (adapter_config.json) beside the model's weights, which transformers adds to the model "
            "where peft is installed; merge it into the weights (merge_and_unload), or delete its files"
        )
    if indexes := sorted(path.name for path in folder.glob("model*.index*.json") if path.name != INDEX):
        return f"holds {indexes[0]} beside {INDEX if index else SINGLE}; delete the one that is not the model"
    read = {path.name for path in weight_files(folder)} if single else _named(folder / INDEX)
    pieces = [path.name for path in folder.glob("*.safetensors") if _piece(path.name) and path.name not in read]
    if read and pieces:
        return (
            f"holds {len(pieces)} files of weights, such as {min(pieces)}, that {SINGLE if single else INDEX} does "
            f"not count as parts of the model; delete what is not the model, or {_AGAIN}"
        )
    return None


def _piece(name: str) -> bool:
    return (_NUMBERED.fullmatch(name) or _OF_RANKS.fullmatch(name)) is not None


def _named(index: Path) -> set[str]:
    """Returns the files that an index names; an empty set if it is not a valid index."""
    try:
        return {str(name) for name in _weight_map(index).values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def _incomplete(index: Path) -> str | None:
    """Returns what is wrong with an index, or with the files that it names."""
    named = _named(index)
    if elsewhere := sorted(name for name in named if Path(name).name != name or not name.endswith(".safetensors")):
        return (
            f"{INDEX} names {elsewhere[0]!r}; it may name only safetensors files in the model's own folder: put them "
            f"there, or {_AGAIN}"
        )
    if absent := sorted(name for name in named if not (index.parent / name).is_file()):
        return (
            f"{len(absent)} of {len(named)} files of weights that {INDEX} names are missing, such as {absent[0]}; "
            "download or save the model again"
        )
    if named and not isinstance(json.loads(index.read_text(encoding="utf-8")).get("metadata"), dict):
        return f'{INDEX} has no "metadata", without which transformers does not read it; add "metadata": {{}}'
    return None
