"""Reads what a model consists of from its files: config, tensor names, shapes. Needs no torch and no weights.

A model is a Hugging Face folder on disk or a Hub name. A dry run reads only the headers, from the Hub if necessary; for
a real run the files are downloaded first.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from osftx.errors import ConfigurationError
from osftx.models.config_keys import problem_of_config
from osftx.models.weight_files import problem_of_files, problem_of_names, problem_of_tensors, weight_files

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "additional_chat_templates/*.jinja", "*.model", "*.txt", "*.py"]
"""Glob patterns of the files that are downloaded, read and copied to checkpoints."""
INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F8_E4M3", "F8_E5M2")
"""Data types, by safetensors' names, that indicate packed or quantised matrices."""
_HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Endings of transformers' class names for decoders with a head, and for models that contain one."""
_PLAIN = "dequantize it, save it in bfloat16 with transformers' save_pretrained, and start from that folder"


@dataclass(frozen=True)
class ModelFiles:
    """A model's config.json and the shape of each tensor in its safetensors files."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @cached_property
    def parameters(self) -> int:
        """Number of parameters in the model's files; a tied head counts twice if the files repeat it."""
        return sum(prod(shape) for shape in self.shapes.values())


def tensor_files(folder: Path) -> dict[str, Path]:
    """Returns the safetensors file of each tensor, in the order of the files."""
    files = {}
    for path in weight_files(folder):
        with safe_open(path, framework="np") as file:
            files.update(dict.fromkeys(file.keys(), path))
    return files


def read_folder(folder: Path, key: str = "model.path") -> ModelFiles:
    """Returns config and shapes of a model on disk; `key` is the setting that names the model, for messages.

    Raises ConfigurationError if the folder is not a Hugging Face model folder, if its files of weights are ambiguous,
    incomplete or contradictory, or if its matrices are quantised.
    """
    if unclear := problem_of_files(folder):
        raise ConfigurationError([f"{key}={folder}: {unclear}"])
    shapes: dict[str, tuple[int, ...]] = {}
    types: set[str] = set()
    try:
        config = _config(folder)
        tensors = {path: _read_header(path, shapes, types) for path in weight_files(folder)}
        unclear = problem_of_config(config) or problem_of_names(folder, config) or problem_of_tensors(folder, tensors)
    # Missing, or with invalid content.
    except (OSError, TypeError, ValueError, KeyError, RecursionError, SafetensorError) as error:
        raise ConfigurationError(
            [
                f"{key}={folder}: not a Hugging Face model folder with config.json and safetensors files "
                f"({type(error).__name__}: {error}); give another folder, or download or save the model again"
            ]
        ) from error
    if unclear:
        raise ConfigurationError([f"{key}={folder}: {unclear}"])
    if packed := types.intersection(INTEGERS):
        raise ConfigurationError([f"{key}={folder}: holds matrices of {', '.join(sorted(packed))}; {_PLAIN}"])
    return ModelFiles(config, shapes)


def check_trainable(files: ModelFiles, path: str, trust_remote_code: bool, key: str = "model.path") -> None:
    """Raises ConfigurationError if, by its config, the model cannot be trained here."""
    config, problems = files.config, []
    quantised = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "unknown method")
        problems.append(f"its weights are quantised ({method}); {_PLAIN}")
    own_code = "AutoModelForCausalLM" in (config.get("auto_map") or {})
    names = config.get("architectures") or []
    headless = bool(names) and not any(name.endswith(_HEADS) for name in names)
    if not own_code and (config.get("is_encoder_decoder") or headless):
        problems.append(
            f"{', '.join(names) or config.get('model_type')} is no causal language model (a decoder with a head, such "
            "as LlamaForCausalLM); give one"
        )
    elif not trust_remote_code and "model_type" in config and not _known(config):
        problems.append(
            f"transformers does not know model_type={config['model_type']!r}; "
            + (
                "the model brings code of its own: read it, then set model.trust_remote_code=true"
                if own_code
                else "give another model, or install a version that does"
            )
        )
    if problems:
        raise ConfigurationError([f"{key}={path}: {problem}" for problem in problems])


def embeddings(files: ModelFiles) -> str | None:
    """Returns the name of the table of token embeddings, found by its usual names; None if none of these exists."""
    usual = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
    return next((name for name, shape in files.shapes.items() if name.endswith(usual) and len(shape) == 2), None)


def embedding_rows(files: ModelFiles) -> int | None:
    """Returns the number of rows of the table of token embeddings; None if it is not found."""
    table = embeddings(files)
    return files.shapes[table][0] if table is not None else None


def _known(config: dict[str, Any]) -> bool:
    """Returns whether transformers knows the model's type.

    The source text of transformers' tables is searched, since importing them would take seconds.
    """
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return True  # nothing to search; loading the model will report the error
    kind = f'"{config.get("model_type", "")}"'
    return any(
        kind in path.read_text(encoding="utf-8") for path in (Path(package.origin).parent / "models/auto").glob("*.py")
    )


def _config(folder: Path) -> dict[str, Any]:
    """Returns the model's config.json. Raises TypeError or ValueError if it is no object."""
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _read_header(path: Path, shapes: dict[str, tuple[int, ...]], types: set[str]) -> list[str]:
    """Returns the names of the tensors in a file; adds their `shapes`, and the data `types` of matrices."""
    with safe_open(path, framework="np") as file:
        names = list(file.keys())
        for name in names:
            tensor = file.get_slice(name)
            shapes[name] = tuple(tensor.get_shape())
            if len(shapes[name]) == 2:
                types.add(tensor.get_dtype())
    return names
