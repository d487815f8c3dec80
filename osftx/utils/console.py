"""The screen, or a log that is wide enough for a table."""

from rich.console import Console

LOG_WIDTH = 160
"""Columns where the output is no terminal: a table in a log must not be cut."""


def console() -> Console:
    """The screen, or a log wide enough for a table."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=LOG_WIDTH)
