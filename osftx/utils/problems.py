"""Gather what several checks find, so that one run shows all of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from osftx.errors import ConfigurationError


class Problems:
    """Collects the problems of ConfigurationErrors, each text once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    @contextmanager
    def of(self, setting: str | None = None) -> Iterator[None]:
        """Keeps the problems that a check raises, behind the `setting` that led to it where the check cannot know it.

        When two settings name the same file, the first one is shown.
        """
        try:
            yield
        except ConfigurationError as error:
            for problem in error.problems:
                self._lines.setdefault(problem, f"{setting}: {problem}" if setting else problem)

    @property
    def lines(self) -> list[str]:
        return list(self._lines.values())
