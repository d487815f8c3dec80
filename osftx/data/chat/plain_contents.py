"""Keeps special tokens that contents spell out plain text, so that no content can end or open a turn."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from osftx.data.chat.conversation import Conversation
from osftx.data.chat.placeholders import NoFreeCharacterError, Placeholders
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError


class PlainContents(NamedTuple):
    """A conversation whose contents are plain text."""

    tokenizer: ChatTokenizer
    """The tokenizer that reads the placeholders of this conversation as what they hide."""
    conversation: Conversation
    """The conversation with placeholders; the conversation itself if there is nothing to hide."""
    spelled: set[str]
    """The special tokens that its contents spell out, each by itself or several side by side."""


def spelled_tokens(tokenizer: ChatTokenizer, conversation: Conversation) -> set[str]:
    """Returns the special tokens that contents, tool calls or tools of the conversation spell out."""
    return tokenizer.special_text.find(_values(conversation))


def with_plain_contents(tokenizer: ChatTokenizer, conversation: Conversation) -> PlainContents:
    """Returns the conversation such that no content, and no two side by side, makes a special token.

    Raises:
        ConversationError: the template would write the text itself otherwise, or a spelling cannot be hidden.
    """
    spelled = spelled_tokens(tokenizer, conversation)
    if not spelled and _hidden(tokenizer, conversation, Placeholders([])) == conversation:
        return PlainContents(tokenizer, conversation, spelled)
    written, read = _written(tokenizer, conversation), tokenizer.special_text.read
    used = [*_texts(_values(conversation)), *tokenizer.template_sources, written]
    try:
        for inner in (True, False):  # a template may look at short texts, such as the type of a call
            placeholders = Placeholders(used)
            hidden = _hidden(tokenizer, conversation, placeholders, inner)
            plain = _written(tokenizer, hidden)
            if placeholders.show(plain) == written and not spelled_tokens(tokenizer, hidden):
                made = Counter(read(written)) - Counter(read(plain))
                return PlainContents(tokenizer.reading(placeholders), hidden, spelled | set(made))
    except NoFreeCharacterError as error:
        raise ConversationError(str(error)) from error
    raise ConversationError(
        "a content spells out a special token, or a part of one, which this template or tokenizer cannot read as plain "
        "text; remove it there, or set special_tokens=allow to have it read as the special token"
    )


def _hidden(
    tokenizer: ChatTokenizer, conversation: Conversation, placeholders: Placeholders, inner: bool = True
) -> Conversation:
    def hide(value: Any) -> Any:
        spelled = tokenizer.special_text.hide(value, placeholders)
        return tokenizer.special_text.hide_edges(spelled, placeholders, inner)

    messages = [
        {key: value if key == "role" else hide(value) for key, value in message.items()}
        for message in conversation.messages
    ]
    return replace(conversation, messages=messages, tools=hide(conversation.tools))


def _values(conversation: Conversation) -> list[Any]:
    messages = conversation.messages
    return [*({key: value for key, value in one.items() if key != "role"} for one in messages), conversation.tools]


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts in nested lists and objects, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _written(tokenizer: ChatTokenizer, conversation: Conversation) -> str:
    """Returns the text of the conversation, or the reason for which the template refuses it."""
    try:
        return tokenizer.render(conversation.messages, conversation.tools)
    except ConversationError as error:
        return str(error)
