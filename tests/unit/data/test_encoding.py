"""Chunks in several processes: in order, not read too far ahead, and over when one of them ends."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import active_children
from typing import Any

import numpy as np
import pytest

from osftx.config.schema import SpecialTokens, TooLong, TrainOn
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.chunks import Chunk
from osftx.data.encoding import IN_FLIGHT, Encoded, Encoder, encode_all
from osftx.data.formats import Shape
from osftx.data.samples import TokenBatch
from osftx.data.sources import Row
from osftx.errors import ConfigurationError

pytestmark = pytest.mark.process

NOTHING = TokenBatch(np.empty(0, np.int32), np.empty(0, bool), np.empty(0, np.int64))


@dataclass(frozen=True)
class Sleeping(Encoder):
    """Takes longest for the first rows; gives back their numbers as sizes."""

    def encode(self, chunk: Chunk) -> Encoded:
        time.sleep(0.1 / (1 + chunk.size))
        return Encoded(chunk.size, NOTHING, Counter(), [], Counter(), {})


@dataclass(frozen=True)
class Dying(Encoder):
    def encode(self, chunk: Chunk) -> Encoded:
        os._exit(1)


def chunks(count: int, read: list[int]) -> Iterator[Chunk]:
    for number in range(count):
        read.append(number)
        yield Chunk(Shape.documents, [Row("", {}, number)])


def test_results_come_in_order_and_few_chunks_are_read_ahead() -> None:
    read: list[int] = []
    results = encode_all(Sleeping(None, TrainOn.assistant, "document"), chunks(20, read), processes=2)
    for number in range(20):
        assert next(results).size == number
        assert len(read) <= number + 2 * IN_FLIGHT
    assert next(results, None) is None
    assert active_children() == []


def test_closing_ends_the_processes() -> None:
    read: list[int] = []
    results = encode_all(Sleeping(None, TrainOn.assistant, "document"), chunks(99, read), processes=2)
    next(results)
    assert active_children()
    results.close()
    assert active_children() == []
    assert len(read) < 10


def test_a_process_that_ends_is_told() -> None:
    results = encode_all(Dying(None, TrainOn.assistant, "document"), chunks(9, []), processes=2)
    with pytest.raises(ConfigurationError, match=r"data.num_proc=2: a process that tokenises has ended .* set data"):
        list(results)
    assert active_children() == []


WRITES = {
    "as JSON": "{{ c.arguments | tojson }}",
    "item by item": "{% for k, v in c.arguments | items %}<p {{ k }}>{{ v }}</p>{% endfor %}",
    "as it is": "{{ c.arguments if c.arguments is string else c.arguments | tojson }}",
}
"""What a template does with the arguments of a call."""
ESCAPED = '{"a": "x\\u003c|im_end|>"}'


def calling(with_template: Callable[[str], ChatTokenizer], kind: str) -> ChatTokenizer:
    return with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
        "{% for call in m.tool_calls or [] %}{% set c = call.function %}[{{ c.name }}|"
        + WRITES[kind]
        + "|]{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def row_with(arguments: Any) -> list[dict[str, Any]]:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": "Call."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "Thanks a lot for it." * 3},
        {"role": "assistant", "content": "You are welcome."},
    ]


def encoded(tokenizer: ChatTokenizer, messages: list[dict[str, Any]], **settings: Any) -> Encoded:
    row = Row("row", json.dumps({"messages": messages}).encode(), 100)
    return Encoder(tokenizer, TrainOn.assistant, "document", **settings).encode(Chunk(Shape.messages, [row]))


@pytest.mark.parametrize("kind", ["as JSON", "item by item"])
def test_escapes_in_arguments_make_no_special_token(with_template: Callable[[str], ChatTokenizer], kind: str) -> None:
    """The template gets the object that the text stands for, in which the special token is spelled out."""
    tokenizer = calling(with_template, kind)
    result = encoded(tokenizer, row_with(ESCAPED))
    ids = result.samples.input_ids.tolist()
    assert sum(token in tokenizer.special_token_ids for token in ids) == 8
    assert "x<|im_end|>" in tokenizer.decode(ids)
    assert result.special == {"row": {"<|im_end|>"}}
    (wrong,) = encoded(tokenizer, row_with(ESCAPED), special_tokens=SpecialTokens.fail).wrong
    assert wrong.reason.startswith("spells out the special token '<|im_end|>'")


def test_escapes_that_a_template_writes_as_they_are_spell_nothing(
    with_template: Callable[[str], ChatTokenizer],
) -> None:
    tokenizer = calling(with_template, "as it is")
    result = encoded(tokenizer, row_with(ESCAPED), special_tokens=SpecialTokens.fail)
    assert (result.special, result.wrong) == ({}, [])
    assert ESCAPED in tokenizer.decode(result.samples.input_ids.tolist())


def test_halves_of_a_special_token_side_by_side_fail(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.reasoning_content }}{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "reasoning_content": "Hm<|im_", "content": "end|>So."},
    ]
    (wrong,) = encoded(tokenizer, messages, special_tokens=SpecialTokens.fail).wrong
    assert wrong.reason.startswith("spells out the special token '<|im_end|>'")
    assert encoded(tokenizer, messages).special == {"row": {"<|im_end|>"}}


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("too_long", [TooLong.cut, TooLong.split])
def test_arguments_as_text_in_conversations_that_are_too_long(
    with_template: Callable[[str], ChatTokenizer], kind: str, too_long: TooLong
) -> None:
    tokenizer = calling(with_template, kind)
    messages = row_with('{"a": "x"}')
    first, second = (encoded(tokenizer, part).samples.input_ids.tolist() for part in (messages[:2], messages[2:]))
    limit = max(len(first), len(second))
    result = encoded(tokenizer, messages, too_long=too_long, max_seq_len=limit)
    assert result.wrong == []
    assert result.samples.input_ids.tolist() == (first if too_long is TooLong.cut else first + second)


def test_a_refusal_shows_what_is_hidden(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>robot {{ messages[-1].content }}{% endif %}"
    )
    messages = [{"role": "user", "content": "a<|im_end|>"}, {"role": "assistant", "content": "So."}]
    (wrong,) = encoded(tokenizer, messages).wrong
    assert "robot a<|im_end|>" in wrong.reason
