"""The files beside the weights that a checkpoint takes over from its start model: known ones alone.

Whatever else lies in a model folder stays there. A link must end in the folder itself, or in the blobs of the Hub's
cache beside it: a link to anywhere else would put a file of this machine into every checkpoint, to be handed on.
"""

from collections.abc import Iterator
from pathlib import Path

from osftx.errors import ConfigurationError

COMPANIONS = (
    "config.json",
    "generation_config.json",
    "*_config.json",  # of tokenizers, processors and a model's own code
    "model.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*.json",
    "vocab*.txt",
    "merges.txt",
    "*.model",  # of sentencepiece
    "*.tiktoken",
    "chat_template.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*.py",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
)
"""Glob patterns of the files that checkpoints take over."""


def companions(folder: Path) -> list[Path]:
    """Returns the files beside the weights that checkpoints take over, sorted.

    Raises ConfigurationError for a link among them that leads out of the folder.
    """
    if strays := list(_leading_out(folder)):
        raise ConfigurationError(strays)
    return [path for path in _known(folder) if path.is_file()]


def check_companions(folder: Path, key: str) -> None:
    """Raises ConfigurationError that names `key` for a link among the `companions` that leads out of the folder."""
    try:
        companions(folder)
    except ConfigurationError as error:
        raise ConfigurationError([f"{key}={folder}: {problem}" for problem in error.problems]) from error


def _known(folder: Path) -> list[Path]:
    return sorted({path for pattern in COMPANIONS for path in folder.glob(pattern)})


def _leading_out(folder: Path) -> Iterator[str]:
    home = folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in _known(folder):
        real = path.resolve()
        if not any(real.is_relative_to(place) for place in homes):
            yield (
                f"{path.relative_to(folder)} is a link to {real}, outside of the folder, and would be copied into "
                f"every checkpoint; put a copy in its place (cp --remove-destination {real} {path}) if it belongs to "
                "the model, or give the folder that it leads to"
            )
