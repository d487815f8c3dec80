"""Collects the problems that several checks find, so that one run shows all of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from osftx.errors import ConfigurationError


class Problems:
    """Collects the problems of ConfigurationErrors, each distinct text once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    @contextmanager
    def of(self, setting: str | None = None) -> Iterator[None]:
        """Collects the problems that a check in the block raises, each prefixed with `setting` if given.

        Give the `setting` that led to the check if the check cannot know it. If two settings lead to the same problem,
        such as by naming one file, the first is shown.
        """
        try:
            yield
        except ConfigurationError as error:
            for problem in error.problems:
                self._lines.setdefault(problem, f"{setting}: {problem}" if setting else problem)

    @property
    def lines(self) -> list[str]:
        return list(self._lines.values())
