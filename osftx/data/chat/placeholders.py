"""Placeholders for texts of one conversation: as long as what they hide, of characters that stand nowhere else."""

from collections.abc import Iterable, Iterator, Set

FIRST, LAST = 0x20000, 0x2A6DF
"""Characters of placeholders: rare ideographs, since a template may write characters that nobody can print as
escapes."""


class NoFreeCharacterError(ValueError):
    """Raised if a text leaves none of the characters that are needed to stand for something else."""


def free_characters(first: int, last: int, used: Set[str]) -> Iterator[str]:
    """Yields the characters from `first` to `last` that are not used.

    Raises:
        NoFreeCharacterError: none is left.
    """
    yield from (character for character in map(chr, range(first, last + 1)) if character not in used)
    raise NoFreeCharacterError(
        f"it uses nearly every character from U+{first:X} to U+{last:X}, so that special tokens cannot be told from "
        "contents; remove it"
    )


class Placeholders:
    """The texts of one conversation that are hidden, and what stands for them."""

    def __init__(self, used: Iterable[str]):
        """Takes the texts in which no placeholder may occur by itself."""
        self._free = free_characters(FIRST, LAST, set().union(*used))
        self._of: dict[str, str] = {}

    def put(self, text: str) -> str:
        """Returns what stands for the text. Raises NoFreeCharacterError if there is no character for it."""
        if text not in self._of:
            self._of[text] = next(self._free) * len(text)
        return self._of[text]

    def stand_in(self, text: str) -> bool:
        """Returns whether the text has placeholders."""
        return any(placeholder in text for placeholder in self._of.values())

    def show(self, text: str) -> str:
        """Returns the text with what the placeholders hide."""
        for hidden, placeholder in self._of.items():
            text = text.replace(placeholder, hidden)
        return text
