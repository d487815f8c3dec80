"""Output of the program: a terminal, or a log that is wide enough for tables, and errors on stderr."""

import io
import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from osftx.errors import Exit
from osftx.utils.masking import mask

LOG_WIDTH = 160
"""Width in columns if the output is not a terminal, so that a table in a log is not cut."""


CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys instead of showing them: C0 and C1 without tab and line feed, and what turns the
direction of text."""


def printable(text: str) -> str:
    """Returns the text with control characters as escapes (`\\x1b`), so that no data can command a terminal."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class SafeConsole(Console):
    """A console that shows control characters in what is printed, wherever it comes from, as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments of a renderable; only rich's own control codes stay what they are."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def console() -> Console:
    """Returns a console for the terminal, or one that is wide enough for tables if the output is not a terminal."""
    screen = SafeConsole()
    return screen if screen.is_terminal else SafeConsole(width=LOG_WIDTH)


def tell(message: str) -> None:
    """Prints a line, control characters as escapes."""
    print(printable(message), flush=True)


def replace_what_cannot_be_shown() -> None:
    """Makes this program print a `?` for what the encoding of its output does not have, instead of failing.

    Every program calls it first: a terminal, a pipe or a scheduler may ask for ASCII or Latin-1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def complain(message: str) -> None:
    """Prints a message on stderr, after the name of the program, without the secrets in it."""
    print(f"osftx: {printable(mask(message))}", file=sys.stderr, flush=True)


def leave(message: str, code: int) -> NoReturn:
    """Prints a message on stderr and ends the program by raising Exit."""
    complain(message)
    raise Exit(code, message)
