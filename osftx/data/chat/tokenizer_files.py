"""Finds, reads and checks the files of a model's tokenizer, on disk or on the Hub."""

import hashlib
import json
from datetime import datetime
from os.path import expanduser, isdir, isfile  # False without permission; the methods of Path raise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Template, TemplateSyntaxError
from tokenizers import AddedToken, Tokenizer
from tokenizers import __version__ as tokenizers_version

from osftx.data.chat.template import compile_template
from osftx.errors import ConfigurationError

Placed = tuple[Path, str]
"""A chat template: the file that holds it, and its source text."""

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
TEMPLATE_FILE = "chat_template.jinja"
TOOL_TEMPLATE_FILE = "additional_chat_templates/tool_use.jinja"
LEGACY_TEMPLATE_FILE = "chat_template.json"
FILES = (
    TOKENIZER_FILE,
    CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    TEMPLATE_FILE,
    TOOL_TEMPLATE_FILE,
    LEGACY_TEMPLATE_FILE,
)


class TokenizerFiles(NamedTuple):
    """Contents of the tokenizer files."""

    folder: Path
    tokenizer: Tokenizer
    template: Template | None
    """Template for conversations without tools; None if there is no chat template."""
    tool_template: Template | None
    """Template for conversations with tools; None if there is no chat template."""
    special_tokens: dict[str, str]
    """Texts of the special tokens, by `bos_token`, `eos_token`, ..."""
    fingerprint: str
    """SHA-256 of the files that were read, as hexadecimal digits."""


def read_tokenizer(path: str, revision: str | None, now: datetime) -> TokenizerFiles:
    """Reads a tokenizer from a local folder, or from the Hub (or its local cache) by a name such as `org/model`.

    `now` is the moment that the chat template takes as the current time. Raises ConfigurationError if nothing is found
    under `path`, there is no `tokenizer.json`, or a file cannot be read.
    """
    folder = Path(expanduser(path))
    if not isdir(folder):
        folder = _download(path, revision)
    contents = {name: _read(folder / name) for name in FILES if isfile(folder / name)}
    if TOKENIZER_FILE not in contents:
        raise ConfigurationError(
            [
                f"{path}: holds no {TOKENIZER_FILE}, which osftx tokenises with; save one there with "
                "transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
            ]
        )
    config = _read_config(folder, contents)
    found = _find_templates(folder, contents, config)
    template, tool_template = (_compile(*placed, now) for placed in found) if found is not None else (None, None)
    return TokenizerFiles(
        folder=folder,
        tokenizer=_build_tokenizer(folder, contents[TOKENIZER_FILE], config),
        template=template,
        tool_template=tool_template,
        special_tokens=_special_tokens(config),
        fingerprint=_fingerprint(contents),
    )


def _download(name: str, revision: str | None) -> Path:
    """Returns the local copy of the tokenizer files of a Hub repository, all of the same commit."""
    from huggingface_hub import snapshot_download  # the import takes half a second and is not needed for a local folder
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    files = list(FILES)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except HFValidationError as error:
        raise ConfigurationError(
            [f"{name}: neither a local folder nor a name on the Hugging Face Hub (organisation/model)"]
        ) from error
    except (
        HTTPError,
        OSError,
    ) as error:  # snapshot_download does not try the cache if a proxy fails
        reason = error.__cause__ or error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
    except LocalEntryNotFoundError as error:
        place = f"{name} (revision {revision})" if revision else name
        first_line = str(reason).strip().split("\n")[0]
        raise ConfigurationError(
            [
                f"{place}: no such local folder, not in the local Hub cache, and the Hub did not "
                f"give it ({type(reason).__name__}: {first_line}); check the name and the network, or give a "
                "local folder"
            ]
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            [f"{path}: cannot be read ({error.strerror}); make it readable, or save the tokenizer again"]
        ) from error


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [f"{path}: is not UTF-8 text ({error.reason} at byte {error.start + 1}); save the file as UTF-8"]
        ) from error


def _read_json(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{folder / name}: is not JSON ({error}); save the tokenizer again"]) from error
    if not isinstance(value, dict):
        raise ConfigurationError([f"{folder / name}: must be a JSON object; save the tokenizer again"])
    return value


def _read_config(folder: Path, contents: dict[str, bytes]) -> dict[str, Any]:
    """Returns the content of `tokenizer_config.json`.

    If it lists no added tokens, the entries of the older `special_tokens_map.json` take precedence.
    """
    config = _read_json(folder, CONFIG_FILE, contents.get(CONFIG_FILE, b"{}"))
    if "added_tokens_decoder" not in config and SPECIAL_TOKENS_FILE in contents:
        config |= _read_json(folder, SPECIAL_TOKENS_FILE, contents[SPECIAL_TOKENS_FILE])
    return config


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Returns the texts of `bos_token`, `eos_token`, ..., which are the variables that a template may use."""
    tokens = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):  # skips switches such as add_bos_token
            tokens[name] = text
    return tokens


def _build_tokenizer(folder: Path, content: bytes, config: dict[str, Any]) -> Tokenizer:
    if "model" not in _read_json(folder, TOKENIZER_FILE, content):  # a Git LFS pointer or a partial download
        raise ConfigurationError([f"{folder / TOKENIZER_FILE}: has no `model`; save the tokenizer again"])
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library has no exception class of its own
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            [
                f"{folder / TOKENIZER_FILE}: cannot be read by tokenizers {tokenizers_version} ({reason}); save the "
                "tokenizer again, or install a newer tokenizers"
            ]
        ) from error
    # The file may have truncation and padding enabled, but training samples are neither cut nor padded.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # The post-processor adds special tokens, which the template has already written, and trims white space off the
    # offsets, so that a token would seem not to represent the space it begins with.
    tokenizer.post_processor = None
    # Tokens that only the configuration names get the ids after the last one, as in transformers.
    tokenizer.add_tokens(_added_tokens(folder, config))
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_special_tokens([text for text in _special_tokens(config).values() if text not in known])
    return tokenizer


def _added_tokens(folder: Path, config: dict[str, Any]) -> list[AddedToken]:
    """Returns the tokens that `added_tokens_decoder` declares, in the order of their ids."""
    try:
        declared = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
        return [AddedToken(**token) for _, token in declared]
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            [
                f"{folder / CONFIG_FILE}: added_tokens_decoder must be an object with a token under each id ({error}); "
                "save the tokenizer again"
            ]
        ) from error


def _find_templates(folder: Path, contents: dict[str, bytes], config: dict[str, Any]) -> tuple[Placed, Placed] | None:
    """Returns the templates for conversations without and with tools, often the same; None if there is no template.

    The source is `chat_template.jinja`, otherwise the configuration, otherwise `chat_template.json`.
    """
    source: Any
    if TEMPLATE_FILE in contents:
        place, source = folder / TEMPLATE_FILE, _text(folder / TEMPLATE_FILE, contents[TEMPLATE_FILE])
    elif config.get("chat_template"):
        place, source = folder / CONFIG_FILE, config["chat_template"]
    elif LEGACY_TEMPLATE_FILE in contents:
        place = folder / LEGACY_TEMPLATE_FILE
        source = _read_json(folder, LEGACY_TEMPLATE_FILE, contents[LEGACY_TEMPLATE_FILE]).get("chat_template")
    else:
        return None
    named = _named_templates(place, source)
    template = place, named["default"]
    if TOOL_TEMPLATE_FILE in contents:
        place = folder / TOOL_TEMPLATE_FILE
        return template, (place, _text(place, contents[TOOL_TEMPLATE_FILE]))
    return template, (place, named.get("tool_use", named["default"]))


def _named_templates(place: Path, source: Any) -> dict[str, str]:
    """Returns the templates by name, including `default`. A plain text is the default template."""
    entries = source if isinstance(source, list) else [{"name": "default", "template": source}]
    try:
        named = {entry["name"]: entry["template"] for entry in entries}
    except (KeyError, TypeError):
        named = {}
    if "default" not in named or not all(isinstance(template, str) for template in named.values()):
        raise ConfigurationError(
            [
                f"{place}: chat_template must be a text, or a list of objects with `name` and `template`, one of them "
                "named `default`; correct it, or save the tokenizer again"
            ]
        )
    return named


def _compile(place: Path, source: str, now: datetime) -> Template:
    try:
        return compile_template(source, now)
    except TemplateSyntaxError as error:
        raise ConfigurationError(
            [f"{place}: the chat template is not valid Jinja2 (line {error.lineno}: {error.message})"]
        ) from error


def _fingerprint(contents: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()
