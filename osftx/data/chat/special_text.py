"""Special tokens that the contents of a conversation spell out, and how they are kept from becoming special.

A user's text that holds `<|im_end|>` would end the user's turn, and could open one of the assistant. To read it as
plain text, two replacements are made, each by characters of the same number, so that places in a text stay the same:

1. Before the template renders a conversation, `hide` puts placeholders for these spellings into its contents. Every
   special token that stands in the rendered text is then the template's own.
2. Before the text is tokenised, the template's own special tokens become stand-ins, which `tokenizer` has as added
   tokens with the same properties, and the placeholders become what they hide. `tokenizer` reads special tokens as
   plain text, so that exactly the template's own are special.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

PLACEHOLDERS = 0x20000
"""First placeholder: a rare ideograph, since a template may write characters that nobody can print as escapes."""
STAND_INS = 0x100000
"""First stand-in: a private-use character, which no normalisation changes."""


class SpecialText:
    """The spellings of a tokenizer's special tokens, in texts."""

    def __init__(self, tokenizer: Tokenizer, encode: Callable[[Tokenizer, str], Encoding]):
        """Takes the tokenizer, and the function that encodes a text with it."""
        self._encode = encode
        tokens = tokenizer.get_added_tokens_decoder()
        special = {number: token for number, token in sorted(tokens.items()) if token.special and token.content}
        self._tokenizer = tokenizer
        self._special = {} if tokenizer.encode_special_tokens else special
        contents = sorted({token.content for token in self._special.values()}, key=len, reverse=True)
        self._hidden = {text: chr(PLACEHOLDERS + place) * len(text) for place, text in enumerate(contents)}
        self._shown = {placeholder: text for text, placeholder in self._hidden.items()}
        self._spelled, self._placeholders = _any_of(self._hidden), _any_of(self._shown)
        # After a normalisation (lower case, for example) other spellings may also become a special token.
        self._normalized = any(token.normalized for token in self._special.values())
        self._plain: tuple[Tokenizer, dict[int, int]] | None = None

    def find(self, value: Any) -> set[str]:
        """Returns the special tokens that the texts in nested lists and objects spell out, keys included."""
        if isinstance(value, str):
            found = set(self._spelled.findall(value))
            if self._normalized:
                ids = self._encode(self._tokenizer, value).ids
                found |= {self._special[number].content for number in ids if number in self._special}
            return found
        return set().union(*map(self.find, _parts(value)))

    def hide(self, value: Any) -> Any:
        """Returns texts, or nested lists and objects of texts, with placeholders for special tokens."""
        return _in_texts(value, lambda text: self._spelled.sub(lambda match: self._hidden[match[0]], text))

    def show(self, text: str) -> str:
        """Returns the text with special tokens where `hide` has put placeholders."""
        return self._placeholders.sub(lambda match: self._shown[match[0]], text)

    def hides_in(self, text: str) -> bool:
        """Returns whether the text has placeholders."""
        return self._placeholders.search(text) is not None

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Returns ids and offsets of a text in which what placeholders hide is read as plain text."""
        plain, real = self._plain = self._plain or self._make_plain()
        found = self._encode(self._tokenizer, text)
        pieces, end = [], 0
        for number, (start, stop) in zip(found.ids, found.offsets, strict=True):
            if number in self._special:
                before, spelling, behind = text[start:stop].partition(self._special[number].content)
                stand_in = _stand_in(list(self._special).index(number), len(spelling))
                pieces += [text[end:start], before, stand_in, behind]
                end = stop
        encoding = self._encode(plain, self.show("".join([*pieces, text[end:]])))
        return [real.get(number, number) for number in encoding.ids], encoding.offsets

    def _make_plain(self) -> tuple[Tokenizer, dict[int, int]]:
        """Returns a tokenizer that knows stand-ins and reads special tokens as text, and the id of each stand-in."""
        plain = Tokenizer.from_str(self._tokenizer.to_str())
        plain.encode_special_tokens = True
        real = {}
        for place, (number, token) in enumerate(self._special.items()):
            stand_in = AddedToken(
                _stand_in(place, len(token.content)),
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
        return plain, real


def _stand_in(place: int, length: int) -> str:
    return chr(STAND_INS + place) * length


def _any_of(texts: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple) else ()


def _in_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_in_texts(key, change): _in_texts(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_in_texts(inner, change) for inner in value]
    return value
