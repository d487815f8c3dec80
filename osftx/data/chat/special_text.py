"""Special tokens that the contents of a conversation spell out, and how they are kept from becoming special.

A user's text that holds `<|im_end|>` would end the user's turn, and could open one of the assistant. To read it as
plain text, two replacements are made, each by characters of the same number, so that places in a text stay the same:

1. Before the template renders a conversation, `hide` puts placeholders for these spellings into its contents. Every
   special token that stands in the rendered text is then the template's own.
2. Before the text is tokenised, the template's own special tokens become stand-ins, which `tokenizer` has as added
   tokens with the same properties, and the placeholders become what they hide. `tokenizer` reads special tokens as
   plain text, so that exactly the template's own are special.

Placeholders and stand-ins are characters that the conversation itself does not have.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from tokenizers import AddedToken, Encoding, Tokenizer

from osftx.data.chat.placeholders import Placeholders, free_characters

STAND_INS = (0x100000, 0x10FFFD)
"""First and last stand-in: private-use characters, which no normalisation changes."""


class _Plain(NamedTuple):
    """A tokenizer that knows stand-ins and reads special tokens as text."""

    tokenizer: Tokenizer
    stand_ins: dict[int, str]
    """The character that stands for each special token, by its id."""
    real: dict[int, int]
    """The id of the special token for the id of each stand-in."""


class SpecialText:
    """The spellings of a tokenizer's special tokens, in texts."""

    def __init__(
        self, tokenizer: Tokenizer, encode: Callable[[Tokenizer, str], Encoding], markers: Collection[str] = ()
    ):
        """Takes the tokenizer, the function that encodes a text with it, and added tokens to treat as special ones."""
        self._encode = encode
        self._tokenizer = tokenizer
        self._added = sorted(tokenizer.get_added_tokens_decoder().items())
        self._special = {
            number: token
            for number, token in self._added
            if token.content and (token.content in markers or (token.special and not tokenizer.encode_special_tokens))
        }
        contents = sorted({token.content for token in self._special.values()}, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, contents)) or r"(?!)")
        self._beginnings = {text[:end] for text in contents for end in range(1, len(text))}
        self._ends = {text[start:] for text in contents for start in range(1, len(text))}
        self._longest = len(contents[0]) if contents else 0
        self._all = "\0".join(contents)
        # After a normalisation (lower case, for example) other spellings may also become a special token.
        self._normalized = any(token.normalized for token in self._special.values())
        self._plain: _Plain | None = None

    def find(self, value: Any) -> set[str]:
        """Returns the special tokens that the texts in nested lists and objects spell out, keys included."""
        if isinstance(value, str):
            return set(self._spelled.findall(value)) | (set(self.read(value)) if self._normalized else set())
        return set().union(*map(self.find, _parts(value)))

    def read(self, text: str) -> list[str]:
        """Returns the special tokens of which the tokenizer makes special ones in the text."""
        ids = self._encode(self._tokenizer, text).ids
        return [self._special[number].content for number in ids if number in self._special]

    def hide(self, value: Any, placeholders: Placeholders) -> Any:
        """Returns texts, or nested lists and objects of texts, with placeholders for special tokens."""
        return _in_texts(
            value, lambda text: self._spelled.sub(lambda match: placeholders.put(match[0]), text), keys=True
        )

    def hide_edges(self, value: Any, placeholders: Placeholders, inner: bool) -> Any:
        """Returns texts, or nested ones, with placeholders for what could become special beside another text.

        That is the end of a special token at the beginning of a text and the beginning of one at its end; with `inner`
        also a text that is a part of a special token as a whole.
        """
        return _in_texts(value, lambda text: self._without_edges(text, placeholders, inner), keys=False)

    def _without_edges(self, text: str, placeholders: Placeholders, inner: bool) -> str:
        core = text.strip()  # since a template may trim what it writes
        if not core:
            return text
        start = text.index(core)
        stop = start + len(core)
        if inner and len(core) < self._longest and core in self._all:
            return f"{text[:start]}{placeholders.put(core)}{text[stop:]}"
        lengths = range(min(len(core), self._longest), 0, -1)
        left = start + next((length for length in lengths if core[:length] in self._ends), 0)
        right = stop - next((length for length in lengths if core[-length:] in self._beginnings), 0)
        right = max(left, right)
        pieces = [text[start:left], text[right:stop]]
        before, behind = (placeholders.put(piece) if piece else "" for piece in pieces)
        return f"{text[:start]}{before}{text[left:right]}{behind}{text[stop:]}"

    def encode(self, text: str, placeholders: Placeholders) -> tuple[list[int], list[tuple[int, int]]]:
        """Returns ids and offsets of a text in which what placeholders hide is read as plain text.

        Raises:
            NoFreeCharacterError: the text leaves no characters for stand-ins.
        """
        shown = placeholders.show(text)
        plain = self._plain = self._plain_for(shown)
        found = self._encode(self._tokenizer, text)
        pieces, end = [], 0
        for number, (start, stop) in zip(found.ids, found.offsets, strict=True):
            if number in self._special:
                before, spelling, behind = text[start:stop].partition(self._special[number].content)
                pieces += [text[end:start], before, plain.stand_ins[number] * len(spelling), behind]
                end = stop
        encoding = self._encode(plain.tokenizer, placeholders.show("".join([*pieces, text[end:]])))
        return [plain.real.get(number, number) for number in encoding.ids], encoding.offsets

    def _plain_for(self, text: str) -> _Plain:
        """Returns the tokenizer whose stand-ins do not occur in the text."""
        used = set(text)
        if self._plain is not None and used.isdisjoint(self._plain.stand_ins.values()):
            return self._plain
        free = free_characters(*STAND_INS, used.union(*(token.content for _, token in self._added)))
        return self._make_plain(dict(zip(self._special, islice(free, len(self._special)), strict=True)))

    def _make_plain(self, stand_ins: dict[int, str]) -> _Plain:
        content = json.loads(self._tokenizer.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["special"] or token["id"] in self._special
        plain = Tokenizer.from_str(json.dumps(content))
        plain.encode_special_tokens = True
        real = {}
        for number, token in self._special.items():
            stand_in = AddedToken(
                stand_ins[number] * len(token.content),
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized,
                special=False,
            )
            plain.add_tokens([stand_in])
            added = plain.token_to_id(stand_in.content)
            assert added is not None
            real[added] = number
        return _Plain(plain, stand_ins, real)


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple) else ()


def _in_texts(value: Any, change: Callable[[str], str], keys: bool) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {
            _in_texts(key, change, keys) if keys else key: _in_texts(inner, change, keys)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_in_texts(inner, change, keys) for inner in value]
    return value
