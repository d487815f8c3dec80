"""The tokens with which a chat template closes an assistant turn."""

from collections.abc import Callable
from pathlib import Path

import pytest
from chat_family import PLAIN, STYLES, TEMPLATES, save_tokenizer
from tokenizers import Tokenizer

from osftx.data.chat.closing import closing_tokens
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError

CLOSING = {
    "llama3": "<|eot_id|>",
    "phi3": "<|end|>",
    "qwen2.5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "phi4_mini": "<|end|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "granite": "<|end_of_text|>",
    "harmony": "<|return|>",
}


@pytest.mark.parametrize("style", CLOSING)
def test_each_style_closes_with_its_own(tmp_path: Path, bpe: Tokenizer, style: str) -> None:
    folder = save_tokenizer(tmp_path, bpe, STYLES[style].template, **STYLES[style].config)
    assert closing_tokens(ChatTokenizer.load(str(folder))) == [bpe.token_to_id(CLOSING[style])]
    assert set(CLOSING) == set(STYLES)


def test_no_marker_and_no_answer(with_template: Callable[[str], ChatTokenizer]) -> None:
    assert closing_tokens(with_template(PLAIN)) == []
    assert closing_tokens(with_template(TEMPLATES["chatml"]))
    with pytest.raises(ConversationError, match="no answers"):
        closing_tokens(with_template("{{ raise_exception('no answers') }}"))
