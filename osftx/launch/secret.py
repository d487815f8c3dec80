"""The secret by which the nodes of a run know each other. It is never sent, written into a run, or given to the ranks.

It comes from `distributed.secret_file`, else from the environment variable OSFTX_SECRET, else from a file in the home
folder, which is made at its first use. So the nodes need no setting where they share the home folder.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError

VARIABLE = "OSFTX_SECRET"
USUAL_FILE = Path("~/.config/osftx/secret")
SHORTEST = 16
"""Fewest characters of a secret."""
MOST_BYTES = 4096
"""Most bytes that are read of the file."""
REMEDY = (
    f"give all nodes one secret of at least {SHORTEST} characters, in a file that you alone can read "
    f"(distributed.secret_file) or in the environment variable {VARIABLE}"
)


def shared_secret(distributed: DistributedConfig, environment: Mapping[str, str]) -> bytes:
    """Returns the secret of the nodes.

    Raises ConfigurationError if there is none, it is too short, or others can read or change its file.
    """
    if distributed.secret_file is not None:
        path = Path(distributed.secret_file).expanduser()
        return _long_enough(_read(path, f"distributed.secret_file={distributed.secret_file}"), str(path))
    if VARIABLE in environment:
        return _long_enough(environment[VARIABLE].strip().encode(), VARIABLE)
    usual = USUAL_FILE.expanduser()
    if not usual.exists():
        _make(usual)
    return _long_enough(_read(usual, str(usual)), str(usual))


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(MOST_BYTES)
    except OSError as error:
        raise ConfigurationError([f"{name}: cannot be read ({error.strerror}); {REMEDY}"]) from error
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigurationError([f"{name}: other users can read or change it; chmod 600 {path}, as its owner"])
    return content.strip()


def _long_enough(secret: bytes, name: str) -> bytes:
    if len(secret) < SHORTEST:
        raise ConfigurationError([f"{name}: its secret has fewer than {SHORTEST} characters; {REMEDY}"])
    return secret


def _make(path: Path) -> None:
    """Makes the file with a random secret, whole or not at all. Another node may do so at the same time."""
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(token_hex(32) + "\n")
            os.link(partial, path)
        except FileExistsError:
            return
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be made ({error.strerror}); {REMEDY}"]) from error
    print(f"made {path}, the secret of the nodes of your runs; nodes that do not share it need a copy", flush=True)
