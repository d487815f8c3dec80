"""Builds a tokenizer with transformers and writes it to a file: `python -m osftx.data.chat.transformers_tokenizer`.

Only transformers knows what its classes make of a folder: which file wins, which class rebuilds the vocabulary, which
special tokens are defaults. A process of its own does it (`built_tokenizer`), so that the launching process need not
import transformers, and so that a file that crashes the library ends this process alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

PROBES = (
    "",
    " ",
    "a",
    "Hello world, it's 12345 o'clock.\n\n\tdef f(x):\r\n    return x  \n",
    "  two  leading, trailing  ",
    "Größe é 東京 привет \U0001f600 \u00a0\u200b\ufb01",
)
"""Texts on which the written tokenizer must give the ids of transformers' own, each also between special tokens."""
LONG_RUN = 20_000
"""Number of equal characters in a row that a tokenizer must get through within the time limit of this program."""


def main() -> None:
    """Builds the tokenizer of the folder given first and writes the result, or the reason of a failure, to the second.

    The result is an object with `serialized` (in the format of `tokenizers`), `special_tokens` and
    `split_special_tokens`; a failure is an object with `problem`, or with `config_problem` if config.json is the cause.
    """
    folder, target = sys.argv[1:]
    sys.modules["torch"] = None  # type: ignore[assignment]  # a tokenizer needs none, and the import takes seconds
    try:
        problem = _problem_of_config(Path(folder) / "config.json")
        result = {"config_problem": problem} if problem else _build(folder)
    except BaseException as error:  # a panic of `tokenizers` is no Exception
        result = {"problem": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    Path(target).write_text(json.dumps(result), encoding="utf-8")


def _problem_of_config(path: Path) -> str | None:
    """Returns why transformers cannot make a model of config.json; None if nothing is wrong.

    A model type that transformers does not know, whose code is elsewhere, is not looked at.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a folder of a tokenizer alone has none
        return None
    if not isinstance(content, dict) or content.get("auto_map") or content.get("model_type") not in CONFIG_MAPPING:
        return None
    try:
        config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # any: the checks of each model type are its own
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return _problem_of_rope(config.get_text_config(decoder=True))


def _problem_of_rope(config: Any) -> str | None:
    """Returns what is wrong with the rotary positions, which transformers only warns of; None if nothing is."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    known = ["default", *ROPE_INIT_FUNCTIONS]
    rope = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *(part for part in rope.values() if isinstance(part, dict))):  # layers may differ
        if part.get("rope_type", "default") not in known:
            return f"rope_type={part['rope_type']!r}, which must be one of {', '.join(known)}"
        for key in ("factor", "rope_theta"):
            if not isinstance(part.get(key), int | float | None):
                return f"{key}={part[key]!r} of the rotary positions, which must be a number"
    return None


def _build(folder: str) -> dict[str, Any]:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    built = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not isinstance(built, PreTrainedTokenizerFast):
        return {"problem": f"{type(built).__name__} does not tokenise with the library `tokenizers`"}
    written = Tokenizer.from_str(built.backend_tokenizer.to_str())
    written.no_truncation()
    written.no_padding()
    written.encode_special_tokens = built.split_special_tokens
    for probe in _probes(built.all_special_tokens):
        for special in (False, True):
            theirs = built(probe, add_special_tokens=special, padding=False, truncation=False)["input_ids"]
            if written.encode(probe, add_special_tokens=special).ids != theirs:
                return {"problem": f"{type(built).__name__} tokenises {probe!r} otherwise than its own backend"}
    for character in (" ", "a", "\n", "!", "1"):  # a regular expression may take forever on a long run
        written.encode(character * LONG_RUN, add_special_tokens=False)
    return {
        "serialized": written.to_str(),
        "special_tokens": built.special_tokens_map,
        "split_special_tokens": bool(built.split_special_tokens),
    }


def _probes(special_tokens: list[str]) -> list[str]:
    between = [f"{token}{probe}{token} {probe}" for token in special_tokens[:8] for probe in PROBES]
    return [*PROBES, *between]


if __name__ == "__main__":
    main()
