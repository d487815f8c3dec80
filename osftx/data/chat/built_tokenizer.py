"""Gets the tokenizer that transformers makes of a folder, without importing transformers here.

A short process builds it once (`transformers_tokenizer`); the result is kept for this user by the content of the files
and the versions of the libraries, so that a second run, or a dry run, does not wait for it.
"""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from osftx.errors import ConfigurationError
from osftx.utils.files import write_text

READ = ("tokenizer*", "config.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model")
"""Glob patterns of the files that decide what transformers builds. Weights and results are none of them."""
LIBRARIES = ("transformers", "tokenizers", "sentencepiece", "tiktoken", "mistral-common", "protobuf")
"""Packages whose version decides what is built."""
PROGRAM = "osftx.data.chat.transformers_tokenizer"
TIME_LIMIT = 300
"""Seconds after which a tokenizer that is still being built counts as one that cannot be; usual are two to ten."""


class BuiltTokenizer(NamedTuple):
    """A tokenizer as transformers builds it."""

    serialized: str
    """The tokenizer in the format of the library `tokenizers`."""
    special_tokens: dict[str, str]
    """Texts of the special tokens, by `bos_token`, `eos_token`, ..."""
    split_special_tokens: bool
    """Whether special tokens in a text are read as plain text."""


def built_tokenizer(folder: Path) -> BuiltTokenizer:
    """Returns the tokenizer that `transformers.AutoTokenizer.from_pretrained(folder)` builds.

    Raises:
        ConfigurationError: transformers cannot build one that the library `tokenizers` can run.
    """
    kept = _kept_in() / f"{_key(folder)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):  # absent, or damaged: built again
        return _read(kept)
    built = _build(folder)
    with suppress(OSError):  # without a folder to write to it is built each time
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(kept, json.dumps(built._asdict()))
    return built


def _kept_in() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osftx" / "tokenizers"


def _read(path: Path) -> BuiltTokenizer:
    if path.stat().st_uid != os.getuid():
        raise OSError("was written by somebody else")
    return BuiltTokenizer(**json.loads(path.read_text(encoding="utf-8")))


def _key(folder: Path) -> str:
    digest = hashlib.sha256()
    program = Path(__file__).with_name("transformers_tokenizer.py")
    found = sorted({path for pattern in READ for path in folder.glob(pattern) if path.is_file()})
    for path in (program, *found):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigurationError([f"{path}: cannot be read ({error.strerror}); make it readable"]) from error
        digest.update(f"{path.name}:{len(content)}:".encode())
        digest.update(content)
    digest.update(json.dumps([_version(name) for name in LIBRARIES]).encode())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _build(folder: Path) -> BuiltTokenizer:
    with TemporaryDirectory(prefix="osftx-tokenizer-") as place:
        target = Path(place) / "tokenizer.json"
        command = [sys.executable, "-m", PROGRAM, str(folder), str(target)]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, env=offline, timeout=TIME_LIMIT, check=False
            )
            result = _result(target, ended)
        except subprocess.TimeoutExpired:
            result = {"problem": f"not done after {TIME_LIMIT} s; a regular expression may run away"}
    if "config_problem" in result:
        raise ConfigurationError(
            [
                f"{folder / 'config.json'}: transformers {version('transformers')} cannot read it "
                f"({result['config_problem']}); correct it, or download or save the model again"
            ]
        )
    if "problem" in result:
        raise ConfigurationError(
            [
                f"{folder}: transformers {version('transformers')} cannot build the tokenizer ({result['problem']}); "
                "correct its files, or save it again as a tokenizer of the library `tokenizers` "
                "(PreTrainedTokenizerFast.save_pretrained)"
            ]
        )
    return BuiltTokenizer(**result)


def _result(target: Path, ended: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Returns what the program has written, or the problem that it was ended by (a crash of a library, a full disk)."""
    try:
        return dict(json.loads(target.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        lines = ended.stderr.decode(errors="replace").strip().splitlines() or [""]
        return {"problem": f"the process that builds it ended with {ended.returncode}: {lines[-1]}"}
