"""Loss masks of random conversations against transformers' own."""

from pathlib import Path
from typing import Any

import pytest
from chat_family import SPECIAL_TOKENS, TEMPLATES, save_tokenizer, train_tokenizer, transformers_sample
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from osftx.data.chat import encode_messages as encode_conversation
from osftx.data.tokenizer import ChatTokenizer

# Text of any alphabet, with much white space, and pieces of what templates write.
CONTENTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.text(" \n\t.é😀", max_size=5)
    | st.sampled_from([*SPECIAL_TOKENS, "assistant", "end", "### user:\n", "def f(x):\n    return x\n"]),
    min_size=1,
    max_size=6,
).map("".join).filter(str.strip)  # fmt: skip

CONVERSATIONS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENTS}),
    min_size=1,
    max_size=5,
).filter(lambda messages: any(message["role"] == "assistant" for message in messages))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ChatTokenizer, Any]]:
    """For each template, osftx' tokenizer and transformers'."""
    bpe = train_tokenizer()
    root: Path = tmp_path_factory.mktemp("tokenizers")
    folders = {name: save_tokenizer(root / name, bpe, template) for name, template in TEMPLATES.items()}
    return {
        name: (ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder))
        for name, folder in folders.items()
    }


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(messages=CONVERSATIONS)
def test_mask_equals_that_of_transformers(
    tokenizers: dict[str, tuple[ChatTokenizer, Any]], name: str, messages: list[dict[str, str]]
) -> None:
    ours, theirs = tokenizers[name]
    sample = encode_conversation(ours, messages)
    assert (sample.input_ids, sample.counted) == transformers_sample(theirs, messages)
