"""Finds, reads and checks the files of a model's tokenizer, on disk or on the Hub."""

import hashlib
import json
from datetime import datetime
from os.path import expanduser, isdir, isfile  # False without permission; the methods of Path raise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Template, TemplateSyntaxError
from tokenizers import __version__ as tokenizers_version

from osftx.data.chat.built_tokenizer import READ, BuiltTokenizer, built_tokenizer
from osftx.data.chat.template import compile_template
from osftx.errors import ConfigurationError
from osftx.models.stop_tokens import GENERATION_CONFIG

Placed = tuple[Path, str]
"""A chat template: the file that holds it, and its source text."""

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
TOOL_TEMPLATE_FILE = "additional_chat_templates/tool_use.jinja"
LEGACY_TEMPLATE_FILE = "chat_template.json"
FILES = (
    TOKENIZER_FILE,
    CONFIG_FILE,
    TEMPLATE_FILE,
    TOOL_TEMPLATE_FILE,
    LEGACY_TEMPLATE_FILE,
)


class TokenizerFiles(NamedTuple):
    """Contents of the tokenizer files, as plain data that another process can receive."""

    folder: Path
    tokenizer: BuiltTokenizer
    template: Placed | None
    """Template for conversations without tools; None if there is no chat template."""
    tool_template: Placed | None
    """Template for conversations with tools; None if there is no chat template."""
    fingerprint: str
    """SHA-256 of everything that decides texts and token ids, as hexadecimal digits."""


def read_tokenizer(path: str, revision: str | None) -> TokenizerFiles:
    """Reads a tokenizer from a local folder, or from the Hub (or its local cache) by a name such as `org/model`.

    Raises ConfigurationError if nothing is found under `path`, there is no `tokenizer.json`, or a file cannot be read.
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
    config = _read_json(folder, CONFIG_FILE, contents.get(CONFIG_FILE, b"{}"))
    template, tool_template = _find_templates(folder, contents, config) or (None, None)
    _check_whole(folder, contents[TOKENIZER_FILE])
    tokenizer = built_tokenizer(folder)
    sources = [placed[1] if placed is not None else None for placed in (template, tool_template)]
    return TokenizerFiles(folder, tokenizer, template, tool_template, _fingerprint(tokenizer, sources))


def _download(name: str, revision: str | None) -> Path:
    """Returns the local copy of the tokenizer files of a Hub repository, all of the same commit."""
    from huggingface_hub import snapshot_download  # the import takes half a second and is not needed for a local folder
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    files = [*FILES, *READ, GENERATION_CONFIG]
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


def _check_whole(folder: Path, content: bytes) -> None:
    """Raises ConfigurationError for a file that is cut off, or a pointer of Git LFS to one."""
    if not content.lstrip().startswith(b"{") or b'"model"' not in content:
        _read_json(folder, TOKENIZER_FILE, content)
        raise ConfigurationError([f"{folder / TOKENIZER_FILE}: has no `model`; save the tokenizer again"])


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


def compile_placed(placed: Placed | None, now: datetime) -> Template | None:
    """Returns the template in compiled form; `now` is the moment that it takes as the current time.

    Raises ConfigurationError if it is not a Jinja2 template.
    """
    if placed is None:
        return None
    place, source = placed
    try:
        return compile_template(source, now)
    except TemplateSyntaxError as error:
        raise ConfigurationError(
            [f"{place}: the chat template is not valid Jinja2 (line {error.lineno}: {error.message})"]
        ) from error


def _fingerprint(tokenizer: BuiltTokenizer, templates: list[str | None]) -> str:
    content = json.dumps([tokenizers_version, tokenizer._asdict(), templates], sort_keys=True)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()
