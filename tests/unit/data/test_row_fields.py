"""Fields of other trainers: honoured exactly or refused, and read past where they say nothing."""

from typing import Any

import pytest
from refusals import GOOD

from osftx.config.schema import TrainOn
from osftx.data.chat.loss_mask import encode_conversation
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.formats import Shape, conversation_of, document_of, tokens_of
from osftx.data.json_text import RowError

USER, ANSWER = GOOD
SYSTEM = {"role": "system", "content": "Be brief."}


def counted(chatml: ChatTokenizer, messages: list[dict[str, Any]], train_on: str = "assistant", **row: Any) -> str:
    """The text that is trained on."""
    conversation = conversation_of(Shape.messages, {"messages": messages, **row}, TrainOn(train_on))
    (sample,) = encode_conversation(chatml, conversation, conversation.train_on or TrainOn(train_on))
    return chatml.decode([token for token, mark in zip(sample.input_ids, sample.counted, strict=True) if mark])


@pytest.mark.parametrize(
    ("unmask", "train_on", "expected"),
    [
        (True, "assistant", "1One.<|im_end|>"),
        (True, "last_assistant", "1One.<|im_end|>"),
        (False, "assistant", "One.<|im_end|>"),
        (None, "assistant", "One.<|im_end|>"),
        (False, "all_but_system", "1One.<|im_end|>"),
    ],
)
def test_a_row_that_is_unmasked_trains_all_but_the_system_message(
    chatml: ChatTokenizer, unmask: bool | None, train_on: str, expected: str
) -> None:
    assert counted(chatml, [SYSTEM, USER, ANSWER], train_on, unmask=unmask) == expected


@pytest.mark.parametrize("flag", [{"train": False}, {"training": False}, {"loss": False}, {"loss": 0}, {"weight": 0}])
def test_a_message_that_is_not_trained_on(chatml: ChatTokenizer, flag: dict[str, Any]) -> None:
    assert counted(chatml, [USER, {**ANSWER, **flag}, USER, {**ANSWER, "content": "1!"}]) == "1!<|im_end|>"
    unmasked = counted(chatml, [{**USER, **flag}, ANSWER], unmask=True)
    assert unmasked == "One.<|im_end|>", "also a message of the user, where it would be"


@pytest.mark.parametrize("flag", [{"train": True}, {"training": True}, {"loss": 1}, {"weight": 1.0}, {"weight": True}])
def test_a_message_that_is_trained_on_anyway(chatml: ChatTokenizer, flag: dict[str, Any]) -> None:
    messages = [{**USER, **flag}, {**ANSWER, **flag}]
    assert counted(chatml, messages) == "One.<|im_end|>"


NEUTRAL: dict[str, Any] = {
    "weight": 1, "sample_weight": 1.0, "train": True, "loss": 1, "mask": None, "loss_mask": [], "label": True,
    "train_on_inputs": False, "rejected": "", "images": [], "chat_template_kwargs": {}, "functions": [],
    "unmask": False, "labels": ["maths"], "completion_mask": [], "roles_to_train": None, "train_on_eos": "turn",
    "kto_tag": 1, "mask_input": "",
}  # fmt: skip


def test_neutral_values_pass(chatml: ChatTokenizer) -> None:
    assert counted(chatml, GOOD, **NEUTRAL) == "One.<|im_end|>"
    assert document_of({"document": "x", "label": False, **{"weight": 1}}, "document") == "x"


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("weight", 0.5, r"has `weight` \(0.5\); a row has no weight of its own: .*data.weights"),
        ("weight", 0, r"has `weight` \(0\)"),
        ("train", False, r"has `train` \(False\); remove the row, or leave it out with data.on_bad_row=skip"),
        ("loss", 2.5, r"has `loss` \(2.5\)"),
        ("loss_mask", [0, 1], r"has `loss_mask` \(list\); mark the messages"),
        ("mask", "User", r"has `mask` \(string\); mark the messages"),
        ("train_on_inputs", True, "set data.train_on=all_but_system"),
        ("mask_history", True, "set data.train_on=last_assistant"),
        ("rejected", "Two.", "preferences are not trained on"),
        ("label", False, "an answer marked as unwanted"),
        ("label", "false", "an answer marked as unwanted"),
        ("label", "False", "an answer marked as unwanted"),
        ("kto_tag", False, "an answer marked as unwanted"),
        ("kto_tag", 0, "an answer marked as unwanted"),
        ("kto_tag", 0.0, "an answer marked as unwanted"),
        ("kto_tag", "False", "an answer marked as unwanted"),
        ("completion_mask", [0, 1], r"has `completion_mask` \(list\); mark the messages"),
        ("assistant_mask", [0, 1], "mark the messages"),
        ("assistant_masks", [0, 1], "mark the messages"),
        ("loss_masks", [0, 1], "mark the messages"),
        ("masks", [0, 1], "mark the messages"),
        ("labels", [-100, -100], r"has `labels` \(list\); mark the messages .* with data.format=tokenized"),
        ("labels", [[-100, 7]], "mark the messages"),
        ("roles_to_train", ["user"], "set data.train_on"),
        ("train_on_turn", [0, 1], "set data.train_on"),
        ("mask_input", True, "set data.train_on"),
        ("mask_input", False, "set data.train_on"),
        ("train_on_eos", False, "the token that closes a turn is trained on"),
        ("train_on_eos", "all", "the token that closes a turn is trained on"),
        ("chat_template_kwargs", {"enable_thinking": False}, "the template is given no arguments"),
        ("functions", [{"name": "add"}], "write them as `tools`"),
        ("images", ["a.png"], "the model is given text alone"),
        ("unmask", 1, r"has an `unmask` that is number; it must be true or false"),
    ],
)
def test_what_cannot_be_honoured_is_refused(field: str, value: Any, remedy: str) -> None:
    with pytest.raises(RowError, match=remedy) as caught:
        conversation_of(Shape.messages, {"messages": GOOD, field: value}, TrainOn.assistant)
    if field != "unmask":
        assert f"data.ignore_fields=[{field}]" in str(caught.value)


@pytest.mark.parametrize("field", ["labels", "completion_mask", "train_on_eos"])
def test_masks_of_documents_are_refused(field: str) -> None:
    with pytest.raises(RowError, match=f"has `{field}`"):
        document_of({"document": "x", field: [-100, 1]}, "document")


def test_a_label_that_is_a_number_may_be_a_class(chatml: ChatTokenizer) -> None:
    assert counted(chatml, GOOD, label=0) == "One.<|im_end|>"


EMPTY = {"annotations": [], "refusal": None, "audio": {}, "status": ""}


def test_keys_of_messages_and_parts_that_are_empty_pass(chatml: ChatTokenizer) -> None:
    part = {"type": "text", "text": "One.", **EMPTY}
    for content in ("One.", [part]):
        answer = {"role": "assistant", "content": content, **EMPTY}
        assert counted(chatml, [USER, answer]) == "One.<|im_end|>"
    with pytest.raises(RowError, match="has the keys annotations; a message has"):
        counted(chatml, [USER, {**ANSWER, "annotations": [1]}])
    for value in (False, 0):
        with pytest.raises(RowError, match="has the keys end_turn; a message has"):
            counted(chatml, [USER, {**ANSWER, "end_turn": value}])


def test_weights_of_documents_are_refused() -> None:
    with pytest.raises(RowError, match="has `sample_weight`"):
        document_of({"document": "x", "sample_weight": 2}, "document")


TOKENS = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}


@pytest.mark.parametrize(
    "more",
    [{"attention_mask": [1, 1, 1]}, {"loss_mask": [0, 1, 1]}, {"assistant_masks": [False, True, True]},
     {"position_ids": [0, 1, 2]}, {"loss_mask": None}],
)  # fmt: skip
def test_masks_that_say_what_the_labels_say(more: dict[str, Any]) -> None:
    assert tokens_of({**TOKENS, **more}, 9) == ([1, 2, 3], [False, True, True])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"attention_mask": [1, 1, 0]}, "rows are not padded"),
        ({"loss_mask": [1, 1, 1]}, "it differs from the labels"),
        ({"completion_mask": [0, 1]}, "it differs from the labels"),
        ({"position_ids": [0, 1, 0]}, "a row is one sample"),
        ({"weight": 3}, "a row has no weight of its own"),
    ],
)
def test_masks_that_say_otherwise(more: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        tokens_of({**TOKENS, **more}, 9)
