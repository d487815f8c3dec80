"""The content of answers, in the styles of the families: what a template or a model writes before it is cut off."""

from pathlib import Path

import pytest
from chat_family import STYLES, save_tokenizer
from tokenizers import Tokenizer

from osftx.data.chat.answer_text import AnswerText
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import encode_conversation
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prompts import split_prompt

REASONED = {
    "qwen3": "<think>\nTwenty and twenty-two.\n</think>\n\nIt is 42.<|im_end|>",
    "harmony": "<|channel|>analysis<|message|>Add.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>It is 42.<|return|>",
    "llama3": "It is 42.<|eot_id|>",
}


def tokenizer_of(tmp_path: Path, bpe: Tokenizer, style: str) -> ChatTokenizer:
    return ChatTokenizer.load(str(save_tokenizer(tmp_path, bpe, STYLES[style].template, **STYLES[style].config)))


@pytest.mark.parametrize("style", STYLES)
def test_the_reference_is_the_content_of_the_row(tmp_path: Path, bpe: Tokenizer, style: str) -> None:
    tokenizer = tokenizer_of(tmp_path, bpe, style)
    for content in ("42", '{"a": [1, 2]}', "two\n\nlines"):
        messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": content}]
        (sample,) = encode_conversation(tokenizer, Conversation(messages, None))
        prompt = split_prompt(sample.input_ids, sample.counted)
        assert AnswerText(tokenizer)(prompt.reference) == content


@pytest.mark.parametrize("style", REASONED)
def test_what_a_model_writes_before_its_answer_is_cut_off(tmp_path: Path, bpe: Tokenizer, style: str) -> None:
    tokenizer = tokenizer_of(tmp_path, bpe, style)
    assert AnswerText(tokenizer)(tokenizer.encode(REASONED[style])[0]) == "It is 42."
    assert AnswerText(tokenizer)([]) == ""
