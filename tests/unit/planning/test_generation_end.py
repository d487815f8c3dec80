"""A model that will not stop is told before it is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_family import CHATML, PLAIN
from tokenizer_fixtures import bpe, with_template

from osftx.config.schema import GenerationEos
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.samples import DataSummary, Prepared
from osftx.errors import ConfigurationError
from osftx.planning.generation_end import added_stop_tokens, end_advice

__all__ = ["bpe", "with_template"]
WithTemplate = Callable[[str], ChatTokenizer]


def read(**turns: int) -> list[Prepared]:
    return [Prepared(None, DataSummary("data.jsonl", turns=turns), np.empty(0), np.empty(0), "")]


def stopping_at(tokenizer: ChatTokenizer, **generation: Any) -> ChatTokenizer:
    (tokenizer.folder / "generation_config.json").write_text(json.dumps(generation))
    return tokenizer


def end_of_turn(tokenizer: ChatTokenizer) -> int:
    return tokenizer.encode("<|im_end|>")[0][0]


def test_a_closing_token_that_stops_nothing(with_template: WithTemplate) -> None:
    tokenizer = stopping_at(with_template(CHATML), eos_token_id=1)
    closing = end_of_turn(tokenizer)
    (line,) = end_advice(tokenizer, [], read(user=2, assistant=2))
    assert line.startswith(
        f"the chat template closes an assistant turn with <|im_end|> ({closing}), but by generation_config.json "
        "generation stops at <|endoftext|> (1): the trained model will not stop; model.generation_eos=from_template"
    )
    assert added_stop_tokens(GenerationEos.keep, tokenizer) == []
    added = added_stop_tokens(GenerationEos.from_template, tokenizer)
    assert added == [closing]
    assert end_advice(tokenizer, added, read(assistant=1)) == []


def test_a_closing_token_that_stops(with_template: WithTemplate) -> None:
    tokenizer = with_template(CHATML)
    stopping_at(tokenizer, eos_token_id=[1, end_of_turn(tokenizer)])
    assert end_advice(tokenizer, [], read(assistant=1)) == []
    assert added_stop_tokens(GenerationEos.from_template, tokenizer) == []


def test_without_a_file_that_decides_the_tokenizers_own_end_counts(with_template: WithTemplate) -> None:
    (line,) = end_advice(with_template(CHATML), [], read(assistant=1))
    assert "by the tokenizer generation stops at <|endoftext|> (1)" in line
    config = with_template(CHATML).folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": "<|im_end|>"}))
    assert end_advice(with_template_again(config.parent), [], read(assistant=1)) == []


def with_template_again(folder: Path) -> ChatTokenizer:
    return ChatTokenizer.load(str(folder))


def test_a_template_that_closes_with_nothing(with_template: WithTemplate) -> None:
    tokenizer = with_template(PLAIN)
    (line,) = end_advice(tokenizer, [], read(assistant=1))
    assert line.startswith("the chat template writes no special token at the end of an assistant turn")
    with pytest.raises(ConfigurationError) as caught:
        added_stop_tokens(GenerationEos.from_template, tokenizer)
    (problem,) = caught.value.problems
    assert problem.startswith("model.generation_eos=from_template: no special token that closes an assistant turn")


def test_documents_alone_close_no_turn(with_template: WithTemplate) -> None:
    tokenizer = stopping_at(with_template(CHATML), eos_token_id=1)
    assert end_advice(tokenizer, [], read(pretraining=3)) == []
    assert end_advice(None, [], read(assistant=3)) == []
