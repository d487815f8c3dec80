"""What is read of an evaluation set with a score, on the shipped tiny tokenizer."""

import json
import sys
from pathlib import Path

import pytest
from checkout import TINY_BASE

from osftx.config.schema import DataConfig, EvaluationSetConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.errors import ConfigurationError, TrainingError
from osftx.planning.asked_sets import Questions, read_questions


def scored(folder: Path, answers: list[str], score: str, context: int | None = None, longest: int = 128) -> Questions:
    rows = [
        {"messages": [{"role": "user", "content": "tell Ada"}, {"role": "assistant", "content": answer}]}
        for answer in answers
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = ChatTokenizer.load(str(TINY_BASE))
    prepared = prepare(DataConfig(path=str(path)), tokenizer, 512, folder / "data")
    assert prepared.folder is not None
    settings = EvaluationSetConfig(path=str(path), score=score, max_new_tokens=longest)
    return read_questions("evaluation.sets.facts", settings, prepared.folder, tokenizer, context)


def test_prompts_end_where_the_answer_begins_and_references_have_no_special_tokens(tmp_path: Path) -> None:
    one = scored(tmp_path, ["a b", "c"], "exact_match")
    assert list(one.references) == ["a b", "c"]
    assert all(prompt.endswith("<|im_start|>assistant\n") for prompt in one.prompts)
    tokenizer = ChatTokenizer.load(str(TINY_BASE))
    assert one.asked.stop_ids == [tokenizer.encode("<|im_end|>")[0][0]]
    assert one.asked.max_new_tokens == 128


def test_references_that_cannot_be_read_are_counted_and_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        scored(tmp_path, ["1", "none", "also none"], "numeric")
    (line,) = refused.value.problems
    assert line.startswith("evaluation.sets.facts.score=numeric: cannot read 2 of 3 references; sample 2, 'none'")


def test_an_answer_must_fit_behind_the_longest_prompt(tmp_path: Path) -> None:
    prompt = len(ChatTokenizer.load(str(TINY_BASE)).encode(scored(tmp_path, ["b"], "contains").prompts[0])[0])
    assert scored(tmp_path, ["b"], "contains", context=prompt + 5, longest=5).asked.max_new_tokens == 5
    with pytest.raises(ConfigurationError, match="set it to 5 or less"):
        scored(tmp_path, ["b"], "contains", context=prompt + 5, longest=6)


def test_documents_have_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text('{"document": "a b"}\n')
    tokenizer = ChatTokenizer.load(str(TINY_BASE))
    prepared = prepare(DataConfig(path=str(path)), tokenizer, 512, tmp_path / "data")
    assert prepared.folder is not None
    with pytest.raises(ConfigurationError, match=r"evaluation\.sets\.x: .*no prompt"):
        read_questions("evaluation.sets.x", EvaluationSetConfig(score="f1"), prepared.folder, tokenizer, None)


@pytest.fixture
def own_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_scores.py").write_text(
        "limit = 3\n"
        "def length(answer, reference):\n    return len(answer) / 10\n"
        "def broken(answer, reference):\n    raise KeyError(answer)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_scores", raising=False)
    return "own_scores"


def test_a_score_of_the_user(tmp_path: Path, own_scores: str) -> None:
    one = scored(tmp_path, ["b"], f"{own_scores}.length")
    assert one.score is not None
    assert one.score.of("12345", "b") == 0.5
    with pytest.raises(TrainingError, match="must be a number from 0"):
        one.score.of("x" * 11, "b")
    broken = scored(tmp_path, ["b"], f"{own_scores}.broken").score
    assert broken is not None
    with pytest.raises(TrainingError, match=r"own_scores\.broken: fails on the answer 'a' \(KeyError"):
        broken.of("a", "b")


@pytest.mark.parametrize(("name", "reason"), [("missing", "cannot be imported"), ("limit", "is no function")])
def test_a_score_that_is_none_is_refused(tmp_path: Path, own_scores: str, name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        scored(tmp_path, ["b"], f"{own_scores}.{name}")
