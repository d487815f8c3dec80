"""Output of the program: a terminal, or a log that is wide enough for tables, and errors on stderr."""

import io
import sys
from typing import NoReturn

from rich.console import Console

from osftx.errors import Exit
from osftx.utils.masking import mask

LOG_WIDTH = 160
"""Width in columns if the output is not a terminal, so that a table in a log is not cut."""


def console() -> Console:
    """Returns a console for the terminal, or one that is wide enough for tables if the output is not a terminal."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=LOG_WIDTH)


def replace_what_cannot_be_shown() -> None:
    """Makes this program print a `?` for what the encoding of its output does not have, instead of failing.

    Every program calls it first: a terminal, a pipe or a scheduler may ask for ASCII or Latin-1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def complain(message: str) -> None:
    """Prints a message on stderr, after the name of the program, without the secrets in it."""
    print(f"osftx: {mask(message)}", file=sys.stderr, flush=True)


def leave(message: str, code: int) -> NoReturn:
    """Prints a message on stderr and ends the program by raising Exit."""
    complain(message)
    raise Exit(code, message)
