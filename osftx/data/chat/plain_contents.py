"""Keeps special tokens that contents spell out plain text, so that no content can end or open a turn."""

from dataclasses import replace
from typing import Any

from osftx.data.chat.conversation import Conversation
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError


def spelled_tokens(tokenizer: ChatTokenizer, conversation: Conversation) -> set[str]:
    """Returns the special tokens that contents, tool calls or tools of the conversation spell out."""
    return tokenizer.special_text.find([*map(_without_role, conversation.messages), conversation.tools])


def with_plain_contents(tokenizer: ChatTokenizer, conversation: Conversation) -> Conversation:
    """Returns the conversation with placeholders, which the tokenizer reads as the text of special tokens.

    Raises:
        ConversationError: the template would write the text itself otherwise, or a spelling cannot be hidden.
    """
    text = tokenizer.special_text
    messages = [{**text.hide(_without_role(message)), "role": message["role"]} for message in conversation.messages]
    hidden = replace(conversation, messages=messages, tools=text.hide(conversation.tools))
    if text.show(_written(tokenizer, hidden)) != _written(tokenizer, conversation) or spelled_tokens(tokenizer, hidden):
        raise ConversationError(
            "a content spells out a special token, which this template or tokenizer cannot read as plain text; remove "
            "it there, or set special_tokens=allow to have it read as the special token"
        )
    return hidden


def _without_role(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "role"}


def _written(tokenizer: ChatTokenizer, conversation: Conversation) -> str:
    """Returns the text of the conversation, or the reason for which the template refuses it."""
    try:
        return tokenizer.render(conversation.messages, conversation.tools)
    except ConversationError as error:
        return str(error)
