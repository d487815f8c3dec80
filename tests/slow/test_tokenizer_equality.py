"""Token ids are those of transformers' AutoTokenizer, for tokenizer folders in the styles of the families."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_folders import STYLES, save_style
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from osftx.data.chat.placeholders import Placeholders
from osftx.data.chat.tokenizer import ChatTokenizer

PIECES = (
    "", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u200b", "a", "Hello", " world", "it's", "123",
    ".", "▁", "<", "|>", "é", "e\u0301", "ﬁ", "東京", "привет", "😀", "👩‍👩‍👧", "İ", "\x00", "<0x41>",
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<s>", "</s>", "<bos>", "<eos>",
    "<unk>", "<pad>", "[INST]", "[CLS]", "[SEP]", "[MASK]", "<|tool|>", "<|user|>", "<|end|>", "<|stop|>", "<|word|>",
    "<tool_call>", "<|padding|>", "<start_of_turn>", "<|IM_END|>",
)  # fmt: skip

TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=12).map("".join)


@cache
def pair(style: str) -> tuple[ChatTokenizer, Any]:
    folder = save_style(Path(mkdtemp()), style)
    return ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
def test_ids_are_those_of_transformers(style: str, text: str) -> None:
    ours, theirs = pair(style)
    assert ours.encode(text)[0] == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("style", STYLES)
def test_special_tokens_are_those_of_transformers(style: str) -> None:
    ours, theirs = pair(style)
    assert (ours.eos_token, ours.eos_token_id) == (theirs.eos_token, theirs.eos_token_id)
    assert ours.vocab_size == len(theirs)
    if not theirs.split_special_tokens:
        assert set(theirs.all_special_ids) <= ours.special_token_ids


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
def test_a_document_is_what_transformers_makes_of_the_text_and_an_end(style: str, text: str) -> None:
    ours, theirs = pair(style)
    plain, whole = ours.encode(text)[0], theirs(text)["input_ids"]
    if ours.eos_token_id is None or not plain or {plain[0], plain[-1]} & ours.special_token_ids:
        return  # ends that the text has itself are not doubled, which transformers does
    ended = whole if whole[-1] == ours.eos_token_id else [*whole, ours.eos_token_id]
    assert ours.encode_document(text) == ended


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
def test_what_is_hidden_is_plain_text_and_nothing_else_changes(style: str, text: str) -> None:
    """All special tokens hidden: as if there were none. None hidden: the ids and offsets of every day."""
    ours, _ = pair(style)
    reader = Tokenizer.from_str(ours.special_text._tokenizer.to_str())
    reader.encode_special_tokens = True
    plain = reader.encode(text, add_special_tokens=False)
    placeholders = Placeholders([text])
    hidden = ours.special_text.hide(text, placeholders)
    assert ours.special_text.encode(hidden, placeholders) == (plain.ids, plain.offsets)
    assert ours.special_text.encode(text, placeholders) == ours.encode(text)
    if not ours.special_text.find(text):  # which are hidden as a whole
        edges = ours.special_text.hide_edges(text, placeholders, inner=True)
        assert ours.special_text.encode(edges, placeholders) == ours.encode(text)
