"""What the program shows: the screen, or a log that is wide enough for a table, and errors on stderr."""

import sys
from typing import NoReturn

from rich.console import Console

from osftx.errors import Exit

LOG_WIDTH = 160
"""Columns where the output is no terminal: a table in a log must not be cut."""


def console() -> Console:
    """Returns the screen, or a log that is wide enough for a table."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=LOG_WIDTH)


def complain(message: str) -> None:
    """Prints a message on stderr, under the name of the program."""
    print(f"osftx: {message}", file=sys.stderr, flush=True)


def leave(message: str, code: int) -> NoReturn:
    """Ends the program with a message on stderr. Raises Exit."""
    complain(message)
    raise Exit(code, message)
