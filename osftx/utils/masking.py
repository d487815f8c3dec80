"""Masks secrets in what is written and shown: passwords in URLs, tokens, and values of keys that name a secret."""

import os
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_WORDS = r"token|password|passwd|pwd|passphrase|secret|api_?key|access_?key|private_?key|secret_?key|credentials?"
NAMES_A_SECRET = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})$", re.IGNORECASE)
"""Last words of a key whose value is masked: hf_token, api_key, db.password."""
OF_THE_TOKENIZER = re.compile(
    r"(?:^|[._])(?:bos|eos|pad|unk|sep|cls|mask|image|audio|video|stop)_token$", re.IGNORECASE
)
"""Keys that end like a secret and are none."""
IN_URL = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*:)[^\s'\"]+(?=@[^\s@'\"]*)", re.IGNORECASE)
"""The password in SCHEME://USER:PASSWORD@HOST."""
TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{10,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abpr]-[\w-]{10,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
"""Tokens that are known by their beginning: of the Hub, OpenAI, GitHub, GitLab, Slack, AWS, and JSON web tokens."""
GIVEN = re.compile(
    rf"(?P<key>[\w.@/+~-]*(?:{_WORDS}))(?P<between>['\"]?\s*[=:]\s*)(?!\$\{{)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,&'\"{{}}\[\]]+)",
    re.IGNORECASE,
)
"""A key with its value, as in an override, a URL's query, JSON or YAML."""
SHORTEST = 8
"""Fewest characters of an environment variable's value that is masked wherever it stands."""
NOTHING = ("null", "none", "true", "false", "", "''", '""')


def mask(text: str) -> str:
    """Returns the text with every secret in it replaced by `***`."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and names_a_secret(name):
            text = text.replace(value, MASK)
    text = IN_URL.sub(rf"\g<before>{MASK}", text)
    return GIVEN.sub(_masked_value, TOKENS.sub(MASK, text))


def masked(content: Any, key: str = "") -> Any:
    """Returns nested plain data with every secret in it replaced. `key` is the key under which it stands."""
    if isinstance(content, Mapping):
        return {name: masked(value, str(name)) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [masked(value, key) for value in content]
    if not isinstance(content, str):
        return content
    if names_a_secret(key) and content.lower() not in NOTHING and "${" not in content:
        return MASK
    return mask(content)


def names_a_secret(key: str) -> bool:
    """Returns whether the value of a key, or of an environment variable, is a secret by its name."""
    return bool(NAMES_A_SECRET.search(key)) and not OF_THE_TOKENIZER.search(key)


def _masked_value(found: re.Match[str]) -> str:
    value = found["value"]
    if not names_a_secret(found["key"]) or value.lower() in NOTHING:
        return found[0]
    return f"{found['key']}{found['between']}{MASK}"
