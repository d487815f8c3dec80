"""The tokenised data: its contents, its summary, and when it is made anew."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_family import TRIMMING, save_tokenizer
from datasets import Features, List, Value
from datasets.arrow_writer import ArrowWriter
from refusals import GOOD, refused
from tokenizers import Tokenizer

from osftx.config.schema import DataConfig, DataFormat, OnBadRow, SpecialTokens, TooLong, TrainOn
from osftx.data import chunks as chunks_module
from osftx.data import prepare as module
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import EncodedConversation, encode_conversation, encode_document
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import EMPTY_TURNS, LOCKS, SHORTENED, counted_tokens, load_samples, sample_lengths
from osftx.errors import ConfigurationError
from osftx.utils import locks

ANSWERS = ["One.", "x = 1 " * 40, "東京 😀", "One."]
MAX_SEQ_LEN = 40


def conversation(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "1"}, {"role": "assistant", "content": answer}]


def encoded(tokenizer: ChatTokenizer, answer: str) -> EncodedConversation:
    (sample,) = encode_conversation(tokenizer, Conversation(conversation(answer)))
    return sample


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(path=write(tmp_path / "data.jsonl", *({"messages": conversation(answer)} for answer in ANSWERS)))


def kept(folder: Path) -> list[Path]:
    """What is in the folder beside its locks."""
    return sorted(path for path in folder.iterdir() if path.name != LOCKS)


def test_summary_and_samples(data: DataConfig, chatml: ChatTokenizer, tmp_path: Path) -> None:
    every = [encoded(chatml, answer) for answer in ANSWERS]
    fitting = [sample for sample in every if len(sample.input_ids) <= MAX_SEQ_LEN]
    assert len(fitting) == 3

    folder, summary, lengths, *_ = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")

    assert folder is not None
    assert summary == prepare(data, chatml, MAX_SEQ_LEN, None).summary
    assert (summary.path, summary.samples, summary.dropped) == (data.path, 3, 1)
    assert summary.tokens == sum(len(sample.input_ids) for sample in fitting)
    assert summary.longest == len(every[1].input_ids)
    assert summary.longest_sample == max(len(sample.input_ids) for sample in fitting)
    assert summary.highest_id == max(token for sample in fitting for token in sample.input_ids)
    samples = load_samples(folder)
    assert samples.to_list() == [{"input_ids": s.input_ids, "counted": s.counted} for s in fitting]
    assert sample_lengths(samples).tolist() == lengths.tolist() == [len(s.input_ids) for s in fitting]
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


def test_a_sample_of_max_seq_len_tokens_is_kept(data: DataConfig, chatml: ChatTokenizer) -> None:
    longest = prepare(data, chatml, 10_000, None).summary.longest
    assert prepare(data, chatml, longest, None).summary.dropped == 0
    assert prepare(data, chatml, longest - 1, None).summary.dropped == 1


def test_nothing_is_written_without_a_folder(data: DataConfig, chatml: ChatTokenizer, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    prepare(data, chatml, MAX_SEQ_LEN, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_tokenizer_the_rows_are_checked(data: DataConfig) -> None:
    assert prepare(data, None, MAX_SEQ_LEN, None).lengths.tolist() == [0] * 4
    write(Path(data.path), {"messages": GOOD}, {"messages": []})
    with pytest.raises(ConfigurationError, match=r"data\.jsonl:2: `messages` is empty list"):
        prepare(data, None, MAX_SEQ_LEN, None)


def test_prepared_samples_are_used_again(
    data: DataConfig, chatml: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(data.path).read_bytes())
    planned = prepare(data, chatml, MAX_SEQ_LEN, None)
    monkeypatch.delattr(module, "encode_all")
    again = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert again[:2] == first[:2]
    assert again.digests.tolist() == first.digests.tolist() == planned.digests.tolist()
    assert again.content == first.content == planned.content
    folder, summary, *_ = prepare(replace(data, path=str(copy)), chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert (folder, summary.path) == (first[0], str(copy))


def test_what_changes_the_samples_makes_a_new_folder(
    data: DataConfig, chatml: ChatTokenizer, bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tmp_path / "prepared"
    other = ChatTokenizer.load(str(save_tokenizer(tmp_path / "other", bpe, TRIMMING)))
    folders = [prepare(data, chatml, MAX_SEQ_LEN, prepared)[0]]
    folders.append(prepare(data, chatml, MAX_SEQ_LEN + 1, prepared)[0])
    folders.append(prepare(data, other, MAX_SEQ_LEN, prepared)[0])
    folders.append(prepare(replace(data, limit=3), chatml, MAX_SEQ_LEN, prepared)[0])
    folders.append(prepare(replace(data, on_bad_row=OnBadRow.skip), chatml, MAX_SEQ_LEN, prepared)[0])
    folders.append(prepare(replace(data, path=[data.path, data.path]), chatml, MAX_SEQ_LEN, prepared)[0])
    with Path(data.path).open("a") as file:
        file.write(json.dumps({"messages": conversation("Two.")}))
    folders.append(prepare(data, chatml, MAX_SEQ_LEN, prepared)[0])
    monkeypatch.setattr(module, "FORMAT_VERSION", -1)
    folders.append(prepare(data, chatml, MAX_SEQ_LEN, prepared)[0])
    assert len(set(folders)) == 8
    assert kept(prepared) == sorted(folder for folder in folders if folder is not None)


OTHER_SETTINGS: dict[str, Any] = {
    "format": DataFormat.messages,
    "train_on": TrainOn.everything,
    "document_column": "text",
    "block_size": 8,
    "limit": 3,
    "on_bad_row": OnBadRow.skip,
    "special_tokens": SpecialTokens.allow,
    "too_long": TooLong.cut,
    "roles": {"bot": "assistant"},
    "ignore_fields": ["weight"],
}


def test_no_setting_is_forgotten() -> None:
    """What is read is told by its content."""
    assert {field.name for field in fields(DataConfig)} == {*OTHER_SETTINGS, "path", "weights", "split", "revision"}


@pytest.mark.parametrize("setting", OTHER_SETTINGS)
def test_every_setting_is_in_the_name_of_the_folder(data: DataConfig, chatml: ChatTokenizer, setting: str) -> None:
    changed = replace(data, **{setting: OTHER_SETTINGS[setting]})
    one, other = (module._fingerprint("content", settings, chatml, MAX_SEQ_LEN) for settings in (data, changed))
    assert one != other


@pytest.mark.parametrize("lost", ["samples.arrow", "summary.json", "index.npy", "a part"])
def test_a_folder_that_has_lost_something_is_made_anew(
    data: DataConfig, chatml: ChatTokenizer, tmp_path: Path, lost: str
) -> None:
    first = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert first.folder is not None
    if lost == "a part":
        file = first.folder / "samples.arrow"
        file.write_bytes(file.read_bytes()[:-8])
    else:
        (first.folder / lost).unlink()
    again = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert again.folder == first.folder
    assert len(load_samples(again.folder)) == len(again.lengths) == len(first.lengths)


def test_a_file_that_changes_while_it_is_read_is_refused(
    data: DataConfig, chatml: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = module.write_index

    def meanwhile(*arguments: Any) -> None:
        usual(*arguments)
        with Path(data.path).open("a") as file:
            file.write(json.dumps({"messages": conversation("Late.")}) + "\n")

    monkeypatch.setattr(module, "write_index", meanwhile)
    with pytest.raises(ConfigurationError, match="was changed while it was read; start again"):
        prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert kept(tmp_path / "prepared") == []


def test_several_paths_are_read_one_after_the_other(data: DataConfig, chatml: ChatTokenizer, tmp_path: Path) -> None:
    other = write(
        tmp_path / "other.jsonl", {"conversations": [{"from": "gpt", "value": "Hi."}]}, {"conversations": GOOD}
    )
    both = prepare(replace(data, path=[data.path, other]), chatml, 100, None)
    parts = [prepare(replace(data, path=path), chatml, 100, None) for path in (data.path, other)]
    assert both.digests.tolist() == [digest for part in parts for digest in part.digests.tolist()]
    assert both.summary.path == f"{data.path}, {other}"


def test_a_limit_takes_the_first_rows_of_each_path(data: DataConfig, chatml: ChatTokenizer, tmp_path: Path) -> None:
    write(tmp_path / "more.jsonl", *({"messages": conversation(answer)} for answer in "abc"))
    every = prepare(replace(data, path=str(tmp_path / "*.jsonl")), chatml, 500, None).digests.tolist()
    assert len(every) == 7
    for limit in (1, 4, 5, 9):
        limited = prepare(replace(data, path=str(tmp_path / "*.jsonl"), limit=limit), chatml, 500, None)
        assert limited.digests.tolist() == every[:limit]
    twice = prepare(replace(data, path=[data.path, data.path], limit=1), chatml, 500, None)
    assert twice.digests.tolist() == every[:1] * 2


DOCUMENTS = [{"document": "One two three."}, {"document": "東京"}, {"document": "four " * 9}]


def test_documents(chatml: ChatTokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", *DOCUMENTS)
    samples = [encode_document(chatml, row["document"]) for row in DOCUMENTS]
    assert all(sample.input_ids[-1] == chatml.eos_token_id and all(sample.counted) for sample in samples)
    prepared = prepare(DataConfig(path=path), chatml, 100, tmp_path / "prepared")
    assert prepared.folder is not None
    assert load_samples(prepared.folder)["input_ids"] == [sample.input_ids for sample in samples]
    named = write(tmp_path / "named.jsonl", *({"text": row["document"]} for row in DOCUMENTS))
    other = prepare(DataConfig(path=named, document_column="text"), chatml, 100, tmp_path / "prepared")
    assert other.digests.tolist() == prepared.digests.tolist()


@pytest.mark.parametrize("block_size", [2, 7, 10, 1000])
def test_blocks_hold_every_token_but_one_that_is_alone(chatml: ChatTokenizer, tmp_path: Path, block_size: int) -> None:
    path = write(tmp_path / "data.jsonl", *DOCUMENTS * 200)
    everything = [token for row in DOCUMENTS * 200 for token in encode_document(chatml, row["document"]).input_ids]
    prepared = prepare(DataConfig(path=path, block_size=block_size), chatml, 1000, tmp_path / "prepared")
    assert prepared.folder is not None
    blocks = load_samples(prepared.folder)["input_ids"]
    alone = len(everything) % block_size == 1
    assert [token for block in blocks for token in block] == everything[: len(everything) - alone]
    assert {len(block) for block in blocks[:-1]} == {block_size}


def test_tokens_are_taken_as_they_are(chatml: ChatTokenizer, tmp_path: Path) -> None:
    row = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}
    prepared = prepare(DataConfig(path=write(tmp_path / "data.jsonl", row)), chatml, 100, tmp_path / "prepared")
    assert prepared.folder is not None
    assert load_samples(prepared.folder).to_list() == [
        {"input_ids": [5, 6, 7, 8], "counted": [False, False, True, True]}
    ]


def test_what_users_have_is_converted_and_told_once(
    chatml: ChatTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a\n\nb"}, GOOD[1]]}
    rows = {
        "`instruction` and `output`": {"system": "S", "instruction": "a", "input": "b", "output": "One."},
        "`conversations`": {
            "system": "S",
            "conversations": [{"from": "human", "value": "a\n\nb"}, {"from": "gpt", "value": "One."}],
        },
    }
    expected = prepare(DataConfig(path=write(tmp_path / "plain.jsonl", plain)), chatml, 100, None)
    assert capsys.readouterr().out == ""
    for keys, row in rows.items():
        path = write(tmp_path / "data.jsonl", row)
        assert prepare(DataConfig(path=path), chatml, 100, None).digests.tolist() == expected.digests.tolist()
        assert capsys.readouterr().out == f"{path}: rows have {keys}, and are read as conversations\n"
        assert prepare(DataConfig(path=path, format=DataFormat.messages), chatml, 100, None).summary.samples == 1
        capsys.readouterr()


def test_settings_that_the_format_does_not_read(chatml: ChatTokenizer, tmp_path: Path) -> None:
    rows = write(tmp_path / "data.jsonl", {"messages": GOOD})
    (problem,) = refused(chatml, tmp_path / "prepared", rows, block_size=10)
    assert problem.startswith(f"{rows}: has messages, but block_size=10, and blocks are cut from documents alone; set")
    (problem,) = refused(chatml, tmp_path / "prepared", rows, document_column="text")
    assert problem.startswith(f"{rows}: has messages, but document_column=text, which is for documents alone; remove")
    documents = write(tmp_path / "documents.jsonl", *DOCUMENTS)
    (problem,) = refused(chatml, tmp_path / "prepared", documents, train_on=TrainOn.everything)
    assert problem.startswith(f"{documents}: has documents, but train_on=everything, which is for conversations alone")


def test_rows_that_are_skipped_are_counted_and_the_first_are_listed(chatml: ChatTokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": GOOD}, *["no"] * 150, {"messages": GOOD}, {"messages": []})
    data = DataConfig(path=path, on_bad_row=OnBadRow.skip)
    summary = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared").summary
    assert (summary.samples, summary.skipped, len(summary.skipped_rows)) == (2, 151, 100)
    assert summary.skipped_rows[0].place == f"{path}:2"
    assert summary.skipped_rows[0].reason.startswith("is not JSON")
    assert prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared").summary == summary, "also when it is found again"
    assert prepare(data, chatml, MAX_SEQ_LEN, None).summary == summary


def test_rows_that_spell_out_special_tokens(chatml: ChatTokenizer, tmp_path: Path) -> None:
    """Plain text by default, special tokens if that is wished, or refused; counted, and the first three named."""
    forged = [{"role": "user", "content": "1<|im_end|>"}, {"role": "assistant", "content": "One."}]
    path = write(tmp_path / "data.jsonl", *[{"messages": messages} for messages in (GOOD, *[forged] * 4)])
    end, found = chatml.encode("<|im_end|>")[0][0], {}
    for setting in (SpecialTokens.as_text, SpecialTokens.allow):
        data = DataConfig(path=path, special_tokens=setting)
        folder, summary, *_ = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")
        assert folder is not None
        found[setting] = [row["input_ids"].count(end) for row in load_samples(folder)]
        assert (summary.special_rows, summary.spelled_tokens) == (4, ["<|im_end|>"])
        assert summary.first_special_rows == [f"{path}:{line}" for line in (2, 3, 4)]
    assert found == {SpecialTokens.as_text: [2] * 5, SpecialTokens.allow: [2, 3, 3, 3, 3]}
    (problem,) = refused(chatml, tmp_path / "none", path, special_tokens=SpecialTokens.fail)
    assert "spells out the special token '<|im_end|>' (special_tokens=fail); remove it" in problem
    assert f"{path}:2" in problem


def test_documents_that_spell_out_special_tokens(chatml: ChatTokenizer, tmp_path: Path) -> None:
    """Read as transformers reads them, and counted; refused only on request."""
    path = write(tmp_path / "data.jsonl", {"document": "One.<|endoftext|>Two."})
    folder, summary, *_ = prepare(DataConfig(path=path), chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert folder is not None
    assert load_samples(folder)[0]["input_ids"] == chatml.encode_document("One.<|endoftext|>Two.")
    assert load_samples(folder)[0]["input_ids"].count(chatml.eos_token_id) == 2
    assert summary.special_rows == 1
    (problem,) = refused(chatml, tmp_path / "none", path, special_tokens=SpecialTokens.fail)
    assert "spells out the special token '<|endoftext|>'" in problem


def test_what_is_adjusted_is_counted(chatml: ChatTokenizer, tmp_path: Path) -> None:
    rows = [{"messages": [*GOOD, {"role": "user", "content": ""}]}, {"messages": [*GOOD * 9]}, {"messages": GOOD}]
    data = DataConfig(path=write(tmp_path / "data.jsonl", *rows), too_long=TooLong.split)
    prepared = prepare(data, chatml, 40, tmp_path / "prepared")
    assert prepared.summary.adjusted == {EMPTY_TURNS: 1, SHORTENED: 1}
    assert prepared.summary.dropped == 0
    assert max(prepared.lengths) <= 40
    assert prepare(data, chatml, 40, tmp_path / "prepared").summary == prepared.summary, "also when it is found again"


def test_token_ids_show_no_turns(chatml: ChatTokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"input_ids": [1, 2], "labels": [1, 2]})
    (problem,) = refused(chatml, tmp_path / "prepared", path, too_long=TooLong.cut)
    assert problem.startswith(f"{path}: has tokenized, but too_long=cut, and token ids show no turns; remove too_long")


def test_nothing_left_after_skipping(chatml: ChatTokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", "no", "neither")
    (problem,) = refused(chatml, tmp_path / "prepared", path, on_bad_row=OnBadRow.skip)
    assert problem.startswith(f"{path}: none of its 2 rows can be used; the first, {path}:1: is not JSON")


def test_all_dropped(data: DataConfig, chatml: ChatTokenizer, tmp_path: Path) -> None:
    longest = prepare(data, chatml, 10_000, None).summary.longest
    with pytest.raises(ConfigurationError) as caught:
        prepare(data, chatml, 5, tmp_path / "prepared")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{data.path}: all 4 samples are longer than max_seq_len = 5 tokens")
    assert f"the longest has {longest}; raise max_seq_len" in problem
    assert kept(tmp_path / "prepared") == [], "nothing unfinished is left behind"


def test_all_paths_that_are_wrong_are_told(chatml: ChatTokenizer, tmp_path: Path) -> None:
    none = [str(tmp_path / name) for name in ("a.jsonl", "*.json")]
    problems = refused(chatml, tmp_path / "prepared", none)
    assert [problem.partition(":")[0] for problem in problems] == none
    assert refused(chatml, tmp_path / "prepared", none, weights=[1, 2]) == problems


# Several processes.


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the smallest data is worth two processes."""
    monkeypatch.setattr(module, "BYTES_PER_PROCESS", 1)
    monkeypatch.setattr(chunks_module, "CHUNK_ROWS", 3)


@pytest.mark.usefixtures("in_processes")
def test_processes_give_the_same_samples_and_problems(data: DataConfig, chatml: ChatTokenizer, tmp_path: Path) -> None:
    write(Path(data.path), *({"messages": conversation(f"answer {number}")} for number in range(50)))
    one, two = (prepare(data, chatml, 100, tmp_path / f"{count}", num_proc=count) for count in (1, 2))
    assert one.summary == two.summary
    assert one.digests.tolist() == two.digests.tolist()
    assert one.folder is not None
    assert two.folder is not None
    assert (one.folder / "samples.arrow").read_bytes() == (two.folder / "samples.arrow").read_bytes()
    write(Path(data.path), *["no", {"messages": GOOD}] * 50)
    problems = []
    for count in (1, 2):
        with pytest.raises(ConfigurationError) as caught:
            prepare(data, chatml, 100, tmp_path / "prepared", num_proc=count)
        problems.append(caught.value.problems)
    assert problems[0] == problems[1]
    (problem,) = problems[0]
    assert problem.startswith(f"{data.path}:1: is not JSON")
    assert f"50 rows have this reason, also {data.path}:3 and {data.path}:5" in problem
    assert kept(tmp_path / "prepared") == []


STOPPED = """
import signal
import sys
from pathlib import Path
from osftx.config.schema import DataConfig
from osftx.data import chunks as chunks_module
from osftx.data import prepare as module
from osftx.data.chat.tokenizer import ChatTokenizer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
path, tokenizer, folder = sys.argv[1:]
module.BYTES_PER_PROCESS = 1
module.prepare(DataConfig(path=path), ChatTokenizer.load(tokenizer), 100, Path(folder), num_proc=2)
"""


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_no_samples_and_no_processes(
    folders: dict[str, Path], tmp_path: Path, number: signal.Signals
) -> None:
    row = json.dumps({"messages": GOOD}) + "\n"
    (tmp_path / "data.jsonl").write_text(row * 100_000)
    prepared = tmp_path / "prepared"
    arguments = [tmp_path / "data.jsonl", folders["chatml"], prepared]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, *map(str, arguments)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (found := list(prepared.glob("*.unfinished/samples.arrow"))) or not found[0].stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number) if number is signal.SIGINT else process.kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert [path.name.partition(".")[2] for path in kept(prepared)] == (
        [] if number is signal.SIGINT else ["unfinished"]
    )
    if number is signal.SIGINT:
        assert said.count("Traceback") == 1, "of the parent alone"
    while _members(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _members(group: int) -> list[str]:
    """Processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(member) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def test_what_a_killed_process_has_left_is_cleared_away(
    data: DataConfig, chatml: ChatTokenizer, tmp_path: Path
) -> None:
    folder = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")[0]
    assert folder is not None
    left = folder.rename(folder.with_name(f"{folder.name}.unfinished"))
    (left / "more").write_text("")
    again = prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared")[0]
    assert kept(tmp_path / "prepared") == [again]
    assert again == folder
    assert not (folder / "more").exists()


def test_a_second_run_waits_and_takes_what_the_first_has_made(
    data: DataConfig,
    chatml: ChatTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locks, "WAIT_TOLD_AFTER_S", 0.1)
    usual, calls = module.encode_all, []

    def slow(*arguments: Any) -> Any:
        calls.append(arguments)
        time.sleep(1)
        return usual(*arguments)

    monkeypatch.setattr(module, "encode_all", slow)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(prepare, data, chatml, MAX_SEQ_LEN, tmp_path / "prepared") for _ in range(2)]
        first, second = (run.result() for run in runs)
    assert first.folder == second.folder
    assert first.summary == second.summary
    assert len(calls) == 1
    assert capsys.readouterr().out == "another run is tokenising the same data; waiting for it\n"


def test_a_folder_that_cannot_be_written(data: DataConfig, chatml: ChatTokenizer) -> None:
    with pytest.raises(ConfigurationError) as caught:
        prepare(data, chatml, MAX_SEQ_LEN, Path(data.path) / "below")
    (problem,) = caught.value.problems
    assert problem.startswith(f"data.processing_dir: {data.path}/below cannot be written (Not a directory); name")


def test_documents_need_no_chat_template_and_conversations_do(data: DataConfig, bpe: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "model", bpe, None)
    tokenizer = ChatTokenizer.load(str(tmp_path / "model"))
    texts = DataConfig(path=write(tmp_path / "texts.jsonl", {"document": "x = 1"}, {"document": "y = 2"}))
    folder, summary, *_ = prepare(texts, tokenizer, MAX_SEQ_LEN, tmp_path / "prepared")
    assert summary.samples == len(load_samples(folder)) == 2
    with pytest.raises(ConfigurationError) as caught:
        prepare(data, tokenizer, MAX_SEQ_LEN, tmp_path / "prepared")
    assert [problem.split(" (")[0] for problem in caught.value.problems] == [f"{tmp_path / 'model'}: no chat template"]
    assert kept(tmp_path / "prepared") == [folder], "nothing is left of what could not be rendered"
