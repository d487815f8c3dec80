"""Arguments of tool calls: however the data keeps them, the template gets them as it expects them."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from osftx.data.chat.arguments import in_accepted_form
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import encode_conversation
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError

WRITES = {
    "as JSON": "{{ c.arguments | tojson }}",
    "item by item": "{% for k, v in c.arguments | items %}<{{ k }}>{{ v if v is string else v | tojson }}{% endfor %}",
    "as it is": "{{ c.arguments if c.arguments is string else c.arguments | tojson }}",
    "as text": "{{ c.name + ' ' + c.arguments }}",
    "printed": "{{ c.arguments }}",
}
"""What a template does with arguments."""
OBJECT = {"place": "Rom", "n": 3, "deep": {"a": [1, 2.5, True, None]}}
WRITTEN = {
    "as JSON": json.dumps(OBJECT),
    "item by item": '<place>Rom<n>3<deep>{"a": [1, 2.5, true, null]}',
    "as it is": json.dumps(OBJECT),
    "as text": f"f {json.dumps(OBJECT)}",
    "printed": json.dumps(OBJECT),
}
EMPTY = {"as JSON": "{}", "item by item": "", "as it is": "{}", "as text": "f {}", "printed": "{}"}


def tokenizer(with_template: Callable[[str], ChatTokenizer], kind: str) -> ChatTokenizer:
    return with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
        "{% for call in m.tool_calls or [] %}{% set c = call.function or call %}[{{ c.name }}|"
        + WRITES[kind]
        + "|]{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}


def counted(chatml: ChatTokenizer, messages: list[dict[str, Any]]) -> list[str]:
    (sample,) = in_accepted_form(Conversation(messages), partial(encode_conversation, chatml))
    return chatml.decode([token for token, mark in zip(sample.input_ids, sample.counted, strict=True) if mark]).split(
        "<|im_end|>"
    )[:-1]


USER = {"role": "user", "content": "Where?"}


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("arguments", [OBJECT, json.dumps(OBJECT)], ids=["object", "text"])
def test_text_and_object_are_written_alike(
    with_template: Callable[[str], ChatTokenizer], kind: str, arguments: Any
) -> None:
    assert counted(tokenizer(with_template, kind), [USER, call(arguments)]) == [f"[f|{WRITTEN[kind]}|]"]


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("arguments", [{}, "{}", "", " "], ids=["object", "text", "empty text", "blank text"])
def test_no_arguments(with_template: Callable[[str], ChatTokenizer], kind: str, arguments: Any) -> None:
    assert counted(tokenizer(with_template, kind), [USER, call(arguments)]) == [f"[f|{EMPTY[kind]}|]"]


@pytest.mark.parametrize("kind", WRITES)
def test_calls_of_both_forms_in_one_conversation(with_template: Callable[[str], ChatTokenizer], kind: str) -> None:
    messages = [USER, call(OBJECT), USER, call(json.dumps(OBJECT))]
    assert counted(tokenizer(with_template, kind), messages) == [f"[f|{WRITTEN[kind]}|]"] * 2


@pytest.mark.parametrize("kind", ["as JSON", "item by item"])
def test_a_call_that_is_not_trained_on_is_written_right_too(
    with_template: Callable[[str], ChatTokenizer], kind: str
) -> None:
    chat = tokenizer(with_template, kind)
    messages = [USER, {**call(json.dumps(OBJECT)), "train": False}, USER, {"role": "assistant", "content": "Rom"}]
    (sample,) = in_accepted_form(Conversation(messages), partial(encode_conversation, chat))
    assert f"[f|{WRITTEN[kind]}|]" in chat.decode(sample.input_ids)


def test_what_a_content_quotes_is_no_call(with_template: Callable[[str], ChatTokenizer]) -> None:
    chat = tokenizer(with_template, "as it is")
    text = '{"place":"Rom"}'
    messages = [{"role": "user", "content": f"Call {json.dumps(text)} or {json.loads(text)}"}]
    assert counted(chat, [*messages, call(text)]) == [f"[f|{text}|]"], "as it is given, if the template takes it"
    assert counted(chat, [*messages, call(json.loads(text))]) == ['[f|{"place": "Rom"}|]']


def test_text_that_is_no_object_is_refused_where_it_would_be_quoted(
    with_template: Callable[[str], ChatTokenizer],
) -> None:
    with pytest.raises(ConversationError, match=r"message 2: .* arguments of f as a quoted text"):
        counted(tokenizer(with_template, "as JSON"), [USER, call("[1]")])
