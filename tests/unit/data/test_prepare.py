"""The tokenised file: its contents, its summary, and when it is made anew."""

import json
from pathlib import Path

import numpy as np
import pytest
from chat_family import TRIMMING, save_tokenizer
from datasets import Features, List, Value
from datasets.arrow_writer import ArrowWriter
from tokenizers import Tokenizer

from osftx.data import prepare as module
from osftx.data.chat import encode_conversation
from osftx.data.conversation import Conversation
from osftx.data.prepare import counted_tokens, load_samples, prepare, sample_lengths, summarize
from osftx.data.tokenizer import ChatTokenizer
from osftx.errors import ConfigurationError

ANSWERS = ["One.", "x = 1 " * 40, "東京 😀", "One."]
MAX_SEQ_LEN = 40


def conversation(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "1"}, {"role": "assistant", "content": answer}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"messages": conversation(answer)}) + "\n" for answer in ANSWERS))
    return path


def test_summary_and_samples(data: Path, chatml: ChatTokenizer, tmp_path: Path) -> None:
    every = [encode_conversation(chatml, Conversation(conversation(answer)))[0] for answer in ANSWERS]
    kept = [sample for sample in every if len(sample.input_ids) <= MAX_SEQ_LEN]
    assert len(kept) == 3

    folder, summary, *_ = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")

    assert summary == summarize(data, chatml, MAX_SEQ_LEN).summary
    assert (summary.path, summary.samples, summary.dropped) == (str(data), 3, 1)
    assert summary.tokens == sum(len(sample.input_ids) for sample in kept)
    assert summary.longest == len(every[1].input_ids)
    assert summary.longest_sample == max(len(sample.input_ids) for sample in kept)
    assert summary.highest_id == max(token for sample in kept for token in sample.input_ids)
    samples = load_samples(folder)
    assert samples.to_list() == [{"input_ids": s.input_ids, "counted": s.counted} for s in kept]
    assert sample_lengths(samples).tolist() == [len(s.input_ids) for s in kept]
    assert samples.cache_files == [{"filename": str(folder / "samples.arrow")}], "memory-mapped"
    assert samples.features["input_ids"].feature.dtype == "int32"


def test_counted_tokens_equal_the_naive_count(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    marks = [(random.random(random.integers(0, 9)) < 0.5).tolist() for _ in range(2500)] + [[], [True], [False, True]]
    with ArrowWriter(path=str(tmp_path / "samples.arrow"), features=Features({"counted": List(Value("bool"))})) as file:
        for row in marks:
            file.write({"counted": row})
        file.finalize()
    samples = load_samples(tmp_path)
    assert samples.data.column("counted").num_chunks > 1
    counted = counted_tokens(samples)
    assert counted.tolist() == [sum(row[1:]) for row in marks]
    assert counted.dtype == np.int64


def test_a_sample_of_max_seq_len_tokens_is_kept(data: Path, chatml: ChatTokenizer) -> None:
    longest = summarize(data, chatml, 10_000).summary.longest
    assert summarize(data, chatml, longest).summary.dropped == 0
    assert summarize(data, chatml, longest - 1).summary.dropped == 1


def test_summary_writes_nothing(data: Path, chatml: ChatTokenizer, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    summarize(data, chatml, MAX_SEQ_LEN)
    assert sorted(tmp_path.rglob("*")) == before


def test_prepared_samples_are_used_again(
    data: Path, chatml: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(data.read_bytes())
    monkeypatch.delattr(module, "write_samples")
    again = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert again[:2] == first[:2]
    assert again.digests.tolist() == first.digests.tolist() == summarize(data, chatml, MAX_SEQ_LEN).digests.tolist()
    folder, summary, *_ = prepare(copy, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert (folder, summary.path) == (first[0], str(copy))


def test_what_changes_the_samples_makes_a_new_folder(
    data: Path, chatml: ChatTokenizer, bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tmp_path / "prepared"
    other = ChatTokenizer.load(str(save_tokenizer(tmp_path / "other", bpe, TRIMMING)))
    folders = [prepare(data, chatml, MAX_SEQ_LEN, prepared)[0]]
    folders.append(prepare(data, chatml, MAX_SEQ_LEN + 1, prepared)[0])
    folders.append(prepare(data, other, MAX_SEQ_LEN, prepared)[0])
    with data.open("a") as file:
        file.write(json.dumps({"messages": conversation("Two.")}))
    folders.append(prepare(data, chatml, MAX_SEQ_LEN, prepared)[0])
    monkeypatch.setattr(module, "FORMAT_VERSION", -1)
    folders.append(prepare(data, chatml, MAX_SEQ_LEN, prepared)[0])
    assert len(set(folders)) == 5
    assert sorted(prepared.iterdir()) == sorted(folders)


def test_another_process_was_faster(
    data: Path, chatml: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, summary, *_ = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    publish = module._publish

    def publish_late(unfinished: Path, target: Path) -> None:
        folder.rename(target)
        publish(unfinished, target)

    folder = folder.rename(tmp_path / "of the other process")
    monkeypatch.setattr(module, "_publish", publish_late)
    again, same, *_ = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert same == summary
    assert list((tmp_path / "prepared").iterdir()) == [again]


def test_all_dropped(data: Path, chatml: ChatTokenizer, tmp_path: Path) -> None:
    longest = summarize(data, chatml, 10_000).summary.longest
    with pytest.raises(ConfigurationError) as caught:
        prepare(data, chatml, 5, tmp_path / "prepared")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{data}: all 4 conversations are longer than max_seq_len = 5 tokens")
    assert f"the longest has {longest}; raise max_seq_len" in problem
    assert list((tmp_path / "prepared").iterdir()) == [], "nothing unfinished is left behind"


def test_problems_of_file_and_template_come_together(data: Path, chatml: ChatTokenizer, tmp_path: Path) -> None:
    thinking = [*conversation("x")[:1], {"role": "assistant", "content": "x", "reasoning_content": "hm"}]
    with data.open("a") as file:
        file.write(json.dumps({"messages": thinking}) + "\nno\n")
    for call in (
        lambda: summarize(data, chatml, MAX_SEQ_LEN),
        lambda: prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            call()
        unreadable, refused = caught.value.problems
        assert unreadable.startswith(f"{data}:6: is not JSON")
        assert refused.startswith(f"{data}:5: message 2: the chat template does not write reasoning_content")


def test_refusals_stop_at_twenty(data: Path, chatml: ChatTokenizer) -> None:
    row = {"messages": [{**message, "reasoning_content": "x"} for message in conversation("x")]}
    data.write_text((json.dumps(row) + "\n") * 100)
    with pytest.raises(ConfigurationError) as caught:
        summarize(data, chatml, MAX_SEQ_LEN)
    assert len(caught.value.problems) == 20


def test_missing_file(chatml: ChatTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.jsonl: cannot be read"):
        summarize(tmp_path / "none.jsonl", chatml, MAX_SEQ_LEN)
    with pytest.raises(ConfigurationError, match=r"none\.jsonl: cannot be read"):
        prepare(tmp_path / "none.jsonl", chatml, MAX_SEQ_LEN, tmp_path / "prepared")
