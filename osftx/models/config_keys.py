"""Tells what is wrong with the kinds of the values in a model's config.json. Needs neither torch nor transformers.

Only keys that are read here are checked; transformers checks the rest when it builds the tokenizer and the model.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class _Kind(NamedTuple):
    """The kinds of value that a key of config.json may have: their description, and the check for them."""

    words: str
    fits: Callable[[Any], bool]


_TEXT = _Kind("text", lambda value: isinstance(value, str))
_TEXTS = _Kind(
    "a list of texts", lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value)
)
_OBJECT = _Kind("an object", lambda value: isinstance(value, dict))
_FILLED = _Kind("absent, or an object with entries", lambda value: isinstance(value, dict) and bool(value))
_COUNT = _Kind("a whole number", lambda value: type(value) is int)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_KINDS = {
    "model_type": _TEXT,
    "architectures": _TEXTS,
    "quantization_config": _FILLED,
    "auto_map": _OBJECT,
    "text_config": _OBJECT,
    "tie_word_embeddings": _FLAG,
    "vocab_size": _COUNT,
    "hidden_size": _COUNT,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _COUNT,
}


def problem_of_config(config: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a value of config.json or of its part for the language model; None if nothing is.

    A null or an empty list stands for a key that is not there.
    """
    for key, kind in _KINDS.items():
        if config.get(key) not in (None, []) and not kind.fits(config[key]):
            return (
                f"config.json has {key}={config[key]!r:.80}, which must be {kind.words}; correct it, or download or "
                "save the model again"
            )
    inner = config.get("text_config")
    return problem_of_config(inner) if inner else None
