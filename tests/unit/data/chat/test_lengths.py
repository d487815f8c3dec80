"""Conversations and documents that are too long: cut or split between turns, each turn counted at most once."""

from collections.abc import Callable
from typing import Any

import pytest

from osftx.config.schema import TooLong, TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.lengths import Fitted, fit_conversation, fit_document
from osftx.data.chat.loss_mask import EncodedConversation, encode_conversation
from osftx.data.chat.tokenizer import ChatTokenizer

SYSTEM = {"role": "system", "content": "Be brief."}


def user(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"Question {number}?"}


def answer(number: int) -> dict[str, Any]:
    return {"role": "assistant", "content": f"Answer {number}."}


MESSAGES = [SYSTEM, *(turn for number in range(6) for turn in (user(number), answer(number)))]


def length(chatml: ChatTokenizer, messages: list[dict[str, Any]]) -> int:
    return len(encode_conversation(chatml, Conversation(messages))[0].input_ids)


def fitted(
    chatml: ChatTokenizer, messages: list[dict[str, Any]], too_long: str, limit: int, train_on: str = "assistant"
) -> Fitted:
    return fit_conversation(chatml, Conversation(messages), TrainOn(train_on), TooLong(too_long), limit)


def texts(chatml: ChatTokenizer, samples: list[EncodedConversation]) -> list[str]:
    return [chatml.decode(sample.input_ids) for sample in samples]


def counted(chatml: ChatTokenizer, samples: list[EncodedConversation]) -> list[str]:
    """What each sample trains on."""
    return [
        chatml.decode([token for token, mark in zip(sample.input_ids, sample.counted, strict=True) if mark])
        for sample in samples
    ]


@pytest.mark.parametrize("too_long", ["drop", "cut", "split"])
def test_what_fits_stays_as_it_is(chatml: ChatTokenizer, too_long: str) -> None:
    limit = length(chatml, MESSAGES)
    assert fitted(chatml, MESSAGES, too_long, limit) == (encode_conversation(chatml, Conversation(MESSAGES)), False)


def test_dropping_leaves_it_to_the_reader(chatml: ChatTokenizer) -> None:
    samples, shortened = fitted(chatml, MESSAGES, "drop", 20)
    assert (len(samples), shortened) == (1, False)


@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("spare", [0, 3])
def test_a_conversation_is_cut_behind_the_last_turn_that_fits(chatml: ChatTokenizer, turns: int, spare: int) -> None:
    kept = MESSAGES[: 1 + 2 * turns]
    samples, shortened = fitted(chatml, MESSAGES, "cut", length(chatml, kept) + spare)
    assert (samples, shortened) == (encode_conversation(chatml, Conversation(kept)), True)


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_a_conversation_is_split_at_user_turns(chatml: ChatTokenizer, turns: int) -> None:
    pieces = [
        [SYSTEM, *MESSAGES[1 + start : 1 + start + 2 * turns]] for start in range(0, len(MESSAGES) - 1, 2 * turns)
    ]
    limit = max(length(chatml, piece) for piece in pieces)
    samples, shortened = fitted(chatml, MESSAGES, "split", limit)
    assert shortened
    assert all(len(sample.input_ids) <= limit for sample in samples)
    assert texts(chatml, samples) == [
        chatml.decode(encode_conversation(chatml, Conversation(piece))[0].input_ids) for piece in pieces
    ]
    assert "".join(counted(chatml, samples)) == "".join(f"Answer {n}.<|im_end|>" for n in range(6))


def test_a_call_and_its_result_stay_together(chatml: ChatTokenizer) -> None:
    together = [user(1), answer(1), {"role": "tool", "content": "3"}, answer(2)]
    messages = [user(0), answer(0), *together]
    samples, _ = fitted(chatml, messages, "split", length(chatml, together))
    assert counted(chatml, samples) == ["Answer 0.<|im_end|>", "Answer 1.<|im_end|>Answer 2.<|im_end|>"]


def test_no_turn_is_cut(chatml: ChatTokenizer) -> None:
    long = {"role": "assistant", "content": "long " * 200}
    limit = length(chatml, MESSAGES[:5])
    samples, _ = fitted(chatml, [user(0), long, user(1), answer(1)], "split", limit)
    assert [len(sample.input_ids) <= limit for sample in samples] == [False, True], "the first one is dropped later"
    samples, shortened = fitted(chatml, [user(0), long, user(1), answer(1)], "cut", limit)
    assert (len(samples), shortened) == (1, False)
    assert len(samples[0].input_ids) > limit


def test_the_last_turn_alone_stays_the_last_turn_alone(chatml: ChatTokenizer) -> None:
    limit = length(chatml, MESSAGES[:5])
    samples, _ = fitted(chatml, MESSAGES, "split", limit, "last_assistant")
    assert counted(chatml, samples) == ["Answer 5.<|im_end|>"]
    samples, shortened = fitted(chatml, MESSAGES, "cut", limit, "last_assistant")
    assert not shortened
    assert len(samples[0].input_ids) > limit


def test_a_system_message_is_counted_once(chatml: ChatTokenizer) -> None:
    limit = max(length(chatml, MESSAGES[:7]), length(chatml, [SYSTEM, *MESSAGES[7:]]))
    samples, _ = fitted(chatml, MESSAGES, "split", limit, "everything")
    assert ["Be brief." in text for text in counted(chatml, samples)] == [True, False]
    assert all("Be brief." in text for text in texts(chatml, samples))


def test_turns_that_are_not_trained_on_make_no_sample(chatml: ChatTokenizer) -> None:
    messages = [user(0), answer(0), user(1), {**answer(1), "train": False}, user(2), answer(2)]
    samples, _ = fitted(chatml, messages, "split", length(chatml, [user(0), answer(0)]))
    assert counted(chatml, samples) == ["Answer 0.<|im_end|>", "Answer 2.<|im_end|>"]


def test_a_template_that_rewrites_turns(with_template: Callable[[str], ChatTokenizer]) -> None:
    """Only the last answer ends with a mark: each sample must fit, not only the longest text."""
    rewriting = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{{ ' . . . .' if loop.last and m.role == 'assistant' else '' }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    limit = max(len(s.input_ids) for s in encode_conversation(rewriting, Conversation(MESSAGES[:5])))
    samples, _ = fitted(rewriting, MESSAGES, "split", limit)
    assert all(len(sample.input_ids) <= limit for sample in samples)
    assert sorted(counted(rewriting, samples)) == [f"Answer {n}. . . . .<|im_end|>" for n in range(6)]


def test_documents() -> None:
    document = EncodedConversation(list(range(9)), [True] * 9)
    assert fit_document(document, TooLong.drop, 4) == ([document], False)
    assert fit_document(document, TooLong.cut, 9) == ([document], False)
    assert fit_document(document, TooLong.cut, 4) == ([EncodedConversation([0, 1, 2, 3], [True] * 4)], True)
    pieces, _ = fit_document(document, TooLong.split, 4)
    assert [piece.input_ids for piece in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7]], "a token alone teaches nothing"


def test_texts_to_pretrain_on(chatml: ChatTokenizer) -> None:
    messages = [{"role": "pretraining", "content": "word " * 50}, {"role": "pretraining", "content": "short"}]
    samples, shortened = fitted(chatml, messages, "split", 20)
    assert shortened
    assert all(len(sample.input_ids) <= 20 for sample in samples)
    assert "".join(texts(chatml, samples)).count("word") == 50


OPENING = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nhelp<|im_end|>\n{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Does not show where a first turn of the assistant begins."""


@pytest.mark.parametrize(("train_on", "context"), [("assistant", 1), ("all_but_system", 1), ("everything", 0)])
def test_a_first_turn_that_is_context_alone_ends_no_conversation(
    with_template: Callable[[str], ChatTokenizer], train_on: str, context: int
) -> None:
    chat = with_template(OPENING)
    messages = [answer(0), user(1), answer(1), user(2), answer(2)]
    whole = encode_conversation(chat, Conversation(messages), TrainOn(train_on))
    limit = length(chat, [user(1), answer(1)])
    split = fitted(chat, messages, "split", limit, train_on)
    pieces = [chat.render([user(number), answer(number)]) for number in (1, 2)]
    assert (texts(chat, split.samples), split.shortened) == (pieces, True)
    assert [sample.context_turns for sample in split.samples] == [context, 0], "also as a piece of no sample"
    assert fitted(chat, messages, "cut", length(chat, messages[1:3]), train_on) == (whole, False), "dropped, counted"
    cut = fitted(chat, messages, "cut", len(chat.encode(chat.render(messages[:3]))[0]), train_on)
    assert texts(chat, cut.samples) == [chat.render(messages[:3])]
    assert [sample.context_turns for sample in cut.samples] == [context]
