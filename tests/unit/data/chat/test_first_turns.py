"""Conversations that begin with a turn of the assistant, as pieces of longer ones do."""

from collections.abc import Callable
from typing import Any

import pytest
from chat_family import runs

from osftx.config.schema import TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import encode_conversation
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OWN_SYSTEM = "<|im_start|>system\nhelp<|im_end|>\n"
TEMPLATES = {
    "plain": "{% for m in messages %}" + TURN + "{% endfor %}" + PROMPT,
    "own system message before the first turn": "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    + OWN_SYSTEM + "{% endif %}" + TURN + "{% endfor %}" + PROMPT,
    "looks at the first message": "{% if messages[0]['role'] != 'system' %}" + OWN_SYSTEM
    + "{% endif %}{% for m in messages %}" + TURN + "{% endfor %}" + PROMPT,
}  # fmt: skip
ALTERNATION = (
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}"
    "{% endif %}" + TURN + "{% endfor %}" + PROMPT
)
SILENT = "{% for m in messages %}{% if not loop.first or m.role != 'assistant' %}" + TURN + "{% endif %}{% endfor %}"


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


PIECE = [turn("assistant", "Hello!"), turn("user", "Hi."), turn("assistant", "So?")]


def trained(chat: ChatTokenizer, messages: list[dict[str, Any]], train_on: str = "assistant") -> tuple[list[str], int]:
    """The runs that are trained on, and how many turns are context alone."""
    (sample,) = encode_conversation(chat, Conversation(messages), TrainOn(train_on))
    assert "Hello!" in chat.decode(sample.input_ids), "the turn is read in any case"
    return [chat.decode(sample.input_ids[start:stop]) for start, stop in runs(sample.counted)], sample.context_turns


@pytest.mark.parametrize(
    ("template", "train_on", "expected"),
    [
        ("plain", "assistant", (["Hello!<|im_end|>", "So?<|im_end|>"], 0)),
        ("own system message before the first turn", "assistant", (["So?<|im_end|>"], 1)),
        ("looks at the first message", "assistant", (["So?<|im_end|>"], 1)),
        ("looks at the first message", "last_assistant", (["So?<|im_end|>"], 0)),
        ("looks at the first message", "all_but_system", (["Hi.", "So?<|im_end|>"], 1)),
    ],
)
def test_the_first_turn_is_trained_on_where_its_beginning_is_certain(
    with_template: Callable[[str], ChatTokenizer], template: str, train_on: str, expected: tuple[list[str], int]
) -> None:
    assert trained(with_template(TEMPLATES[template]), PIECE, train_on) == expected


@pytest.mark.parametrize("template", TEMPLATES)
def test_behind_a_system_message_it_is_certain(with_template: Callable[[str], ChatTokenizer], template: str) -> None:
    found, context = trained(with_template(TEMPLATES[template]), [turn("system", "Be brief."), *PIECE])
    assert (found, context) == (["Hello!<|im_end|>", "So?<|im_end|>"], 0)


@pytest.mark.parametrize("template", TEMPLATES)
def test_everything_is_everything(with_template: Callable[[str], ChatTokenizer], template: str) -> None:
    (sample,) = encode_conversation(with_template(TEMPLATES[template]), Conversation(PIECE), TrainOn.everything)
    assert sample.counted == [False] + [True] * (len(sample.input_ids) - 1)


def test_a_first_turn_that_is_not_to_be_trained_on(with_template: Callable[[str], ChatTokenizer]) -> None:
    chat = with_template(TEMPLATES["looks at the first message"])
    assert trained(chat, [{**PIECE[0], "train": False}, *PIECE[1:]]) == (["So?<|im_end|>"], 0)


def test_nothing_but_an_uncertain_first_turn_is_refused(with_template: Callable[[str], ChatTokenizer]) -> None:
    chat = with_template(TEMPLATES["looks at the first message"])
    for messages in (PIECE[:1], PIECE[:2]):
        with pytest.raises(ConversationError, match=r"message 1: the conversation begins with this turn .*on_bad_row"):
            encode_conversation(chat, Conversation(messages))


def test_a_template_that_demands_a_question_first_refuses_it(with_template: Callable[[str], ChatTokenizer]) -> None:
    with pytest.raises(ConversationError, match="refuses the conversation: must alternate"):
        encode_conversation(with_template(ALTERNATION), Conversation(PIECE))


def test_a_template_that_leaves_the_first_turn_out_is_refused(with_template: Callable[[str], ChatTokenizer]) -> None:
    chat = with_template("{{ messages[0].role }}" + SILENT + PROMPT)
    with pytest.raises(ConversationError, match="message 1: the chat template does not write"):
        encode_conversation(chat, Conversation(PIECE))
