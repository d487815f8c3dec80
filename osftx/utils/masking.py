"""Masks secrets in what is written and shown: passwords in URLs, tokens, and values of keys that name a secret."""

import json
import os
import re
from collections.abc import Mapping
from hashlib import scrypt, sha256
from typing import Any

MASK = "***"
_WORDS = (
    r"token|passwords?|passwd|pwd|passphrase|secrets?|credentials?|authorization|auth|(?:hf|hub|api|access|auth)_tokens"
    r"|(?:api|access|private|secret|account|wandb|hf|openai|signing|encryption)[-_]?keys?|sig|x-(?:amz|goog)-signature"
)
NAMES_A_SECRET = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})$", re.IGNORECASE)
"""Last words of a key whose value is masked: hf_token, api_key, db.password."""
OF_THE_TOKENIZER = re.compile(
    r"(?:^|[._])(?:bos|eos|pad|unk|sep|cls|mask|image|audio|video|stop|per)_token$", re.IGNORECASE
)
"""Keys that end like a secret and are none."""
IN_URL = re.compile(
    r"(?P<before>(?<![a-z0-9])[a-z][a-z0-9+.-]{0,30}://[^\s/:@'\"]{0,256}:)"
    r"(?:[^\s'\"]{1,1024}(?=@[^\s@'\"]*)|(?!\d{1,5}[/\s])[^\s/@'\"]{1,256}(?: [^\s/@'\"]{1,256}){1,3}(?=@))"
    r"|(?P<web>(?<![a-z0-9])(?:[a-z]{1,10}\+)?https?://)[^\s/:@'\"]{1,1024}(?=@)",
    re.IGNORECASE,
)
"""The password in SCHEME://USER:PASSWORD@HOST, and the token in https://TOKEN@HOST."""
TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_(?=[a-z]{0,200}[A-Z0-9])[A-Za-z0-9]{30,}"
    r"|sk-(?=[A-Za-z_-]{0,200}\d)(?=[\w-]{0,64}?\w{16})[\w-]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abepr](?:\.xox[bp])?-[\w-]{10,}"
    r"|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{35}|npm_[A-Za-z0-9]{36}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|nvapi-[\w-]{32,}"
    r"|r8_[A-Za-z0-9]{32,}|dckr_pat_[\w-]{20,}|eyJ[\w-]{10,4096}\.[\w-]{10,4096}\.[\w-]*)"
)
"""Tokens that are known by their beginning and length: of the Hub, OpenAI, GitHub, GitLab, Slack, AWS, Google, npm,
Stripe, NVIDIA, Replicate and Docker, and JSON web tokens."""
_KEY = r"[\w.@/+~-]"
OVERRIDDEN = re.compile(rf"{_KEY}+")
_PLAIN = r"[^\s,&{}\[\];]"
GIVEN = re.compile(
    rf"(?<!{_KEY})(?P<key>{_KEY}*(?:{_WORDS}))(?P<between>['\"]?\s{{0,8}}[=:]\s{{0,8}})"
    r"(?P<value>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|\$\{[^{}\s]*\}"
    rf"|{_PLAIN}+(?:[ ]+(?!{_KEY}{{1,128}}['\"]?\s{{0,8}}[=:]){_PLAIN}+)*)",
    re.IGNORECASE,
)
"""A key with its value, as in an override, a URL's query, JSON or YAML. A value without quotes may have spaces."""
REFERENCE = re.compile(r"\$\{(?:oc\.env:)?\s*[\w.]+\s*\}")
"""A reference that holds no value itself: one with a fallback does."""
SHORTEST = 8
"""Fewest characters of an environment variable's value that is masked wherever it stands."""
SEAL = "# With the masked values: scrypt "
FOLDERS = ("PWD", "OLDPWD")
"""Environment variables that are named like a password and hold a folder, which may be gone."""
NOTHING = ("null", "none", "true", "false", "", "''", '""')


def mask(text: str) -> str:
    """Returns the text with every secret in it replaced by `***`."""
    for value in _of_environment():
        text = text.replace(value, MASK)
    text = IN_URL.sub(lambda found: f"{found['before'] or found['web']}{MASK}", text)
    return GIVEN.sub(_masked_value, TOKENS.sub(MASK, text))


def mask_override(word: str) -> str:
    """Returns an override, KEY=VALUE, with every secret in it replaced; the whole value if the key names a secret."""
    key, given, value = word.partition("=")
    whole = given and OVERRIDDEN.fullmatch(key) and names_a_secret(key) and _tells(value)
    return f"{key}={MASK}" if whole else mask(word)


def masked(content: Any, key: str = "") -> Any:
    """Returns nested plain data with every secret in it replaced. `key` is the key under which it stands.

    Below a key that names a secret everything is one, whatever its type and the keys in it.
    """
    secret = names_a_secret(key)
    if isinstance(content, Mapping):
        return {name: masked(value, key if secret else str(name)) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [masked(value, key) for value in content]
    if secret and _tells(content):
        return MASK
    return mask_override(content) if isinstance(content, str) else content


def sealed(content: Any) -> str:
    """Returns a digest by which settings with secrets are compared after they were masked; nothing if they have none.

    It is slow to make and salted by what is shown, so that a secret cannot be looked up in a table of digests.
    """
    shown = masked(content)
    if shown == content:
        return ""
    salt = sha256(json.dumps(shown, sort_keys=True, default=str).encode()).digest()
    whole = json.dumps(content, sort_keys=True, default=str).encode()
    return f"{SEAL}{scrypt(whole, salt=salt, n=2**14, r=8, p=1, dklen=32).hex()}"


def seal_of(text: str) -> str:
    """Returns the digest in the first line of settings that were written masked; nothing if there is none."""
    first = text.partition("\n")[0]
    return first if first.startswith(SEAL) else ""


def names_a_secret(key: str) -> bool:
    """Returns whether the value of a key, or of an environment variable, is a secret by its name."""
    return bool(NAMES_A_SECRET.search(key)) and not OF_THE_TOKENIZER.search(key)


def _of_environment() -> list[str]:
    """Returns the secrets among the values of environment variables, longest first. Paths, as in PWD, are none."""
    named = (value for name, value in os.environ.items() if len(value) >= SHORTEST and _is_secret_variable(name))
    return sorted((value for value in named if not _is_path(value)), key=len, reverse=True)


def _is_secret_variable(name: str) -> bool:
    return names_a_secret(name) and name not in FOLDERS


def _is_path(value: str) -> bool:
    return os.path.isabs(value) and os.path.lexists(value)


def _tells(value: Any) -> bool:
    """Returns whether a value under a key that names a secret holds one: it is neither nothing nor a reference."""
    if value is None or isinstance(value, bool):
        return False
    text = str(value).strip()
    return text.lower() not in NOTHING and not REFERENCE.fullmatch(text)


def _masked_value(found: re.Match[str]) -> str:
    if not names_a_secret(found["key"]) or not _tells(found["value"]):
        return found[0]
    return f"{found['key']}{found['between']}{MASK}"
