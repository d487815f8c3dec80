"""What is shown of the data is what is trained on."""

import json
from pathlib import Path

import numpy as np
import pytest

from osftx.config.schema import DataConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.inspection import inspect, passages
from osftx.data.prepare import prepare
from osftx.data.samples import Prepared

ANSWERS = ["4", "4", "a much longer answer than that"]


@pytest.fixture
def prepared(tmp_path: Path, chatml: ChatTokenizer) -> Prepared:
    path = tmp_path / "data.jsonl"
    rows = (
        {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": answer}]}
        for answer in ANSWERS
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prepare(DataConfig(path=str(path)), chatml, 200, tmp_path / "tokenised")


def test_figures(prepared: Prepared, chatml: ChatTokenizer) -> None:
    figures = inspect(prepared)
    answered = sum(len(chatml.encode(f"{answer}<|im_end|>")[0]) for answer in ANSWERS)
    assert (figures.samples, figures.counted, figures.duplicates) == (3, answered, 1)
    assert figures.tokens == prepared.lengths.sum()
    assert prepared.summary.turns == {"user": 3, "assistant": 3}


def test_every_sample_is_in_one_bin(prepared: Prepared) -> None:
    lengths = prepared.lengths.astype(int)
    bins = inspect(prepared).histogram
    assert [int(np.sum((lengths >= start) & (lengths <= end))) for start, end, _ in bins] == [n for _, _, n in bins]
    assert sum(count for _, _, count in bins) == 3
    assert (bins[0][0], bins[-1][1]) == (lengths.min(), lengths.max())


def test_the_passages_are_the_text_with_the_answer_marked(prepared: Prepared, chatml: ChatTokenizer) -> None:
    before = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert passages(prepared, 2, chatml) == [
        (before, False),
        (f"{ANSWERS[2]}<|im_end|>", True),
        ("\n", False),
    ]
