"""Replay: how many samples, which ones, and the file that holds them beside the phase's own."""

import json
from pathlib import Path

import pytest

from osftx.data.mixing import mix, replayed_samples
from osftx.data.prepare import Prepared, load_samples, prepare, summarize
from osftx.data.tokenizer import ChatTokenizer

MAX_SEQ_LEN = 60


def write(path: Path, answers: list[str]) -> Path:
    turns = [[{"role": "user", "content": "1"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The phase's own file and two earlier ones."""
    return (
        write(tmp_path / "own.jsonl", ["own a", "own b"]),
        write(tmp_path / "facts.jsonl", [f"fact {number}" for number in range(30)]),
        write(tmp_path / "base.jsonl", [f"base {number}" for number in range(10)]),
    )


def rows(prepared: Prepared) -> list[list[int]]:
    assert prepared.folder is not None
    return [row["input_ids"] for row in load_samples(prepared.folder)]


@pytest.mark.parametrize(
    ("available", "ratio", "expected"), [(30, 0.1, 3), (30, 0.01, 1), (30, 0.0, 0), (30, 1.0, 30), (120, 0.01, 2)]
)
def test_a_share_is_rounded_up(available: int, ratio: float, expected: int) -> None:
    assert replayed_samples(available, ratio, None) == expected


def test_a_number_is_taken_as_it_is() -> None:
    assert replayed_samples(30, None, 7) == 7


def test_the_mix_holds_the_phase_and_what_was_drawn(
    files: tuple[Path, Path, Path], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    own, facts, base = (prepare(path, chatml, MAX_SEQ_LEN, tmp_path / "prepared") for path in files)
    mixed = mix(own, [(facts, 12), (base, 10)], seed=1, folder=tmp_path / "prepared")
    assert rows(mixed)[:2] == rows(own)
    from_facts, from_base = rows(mixed)[2:14], rows(mixed)[14:]
    assert len({tuple(row) for row in from_facts}) == 12
    assert all(row in rows(facts) for row in from_facts)
    assert sorted(from_base) == sorted(rows(base)), "all of a source, none twice"
    assert mixed.summary.samples == 24
    assert mixed.summary.tokens == sum(map(len, rows(mixed))) == mixed.lengths.sum()
    assert mixed.summary.path == str(files[0])
    assert mixed.digests.tolist()[2:14] == [facts.digests[rows(facts).index(row)] for row in from_facts], (
        "a sample keeps its digest"
    )


def test_without_a_folder_the_numbers_are_the_same(
    files: tuple[Path, Path, Path], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    own, facts, _ = (prepare(path, chatml, MAX_SEQ_LEN, tmp_path / "prepared") for path in files)
    planned_own, planned_facts, _ = (summarize(path, chatml, MAX_SEQ_LEN) for path in files)
    written = mix(own, [(facts, 5)], seed=1, folder=tmp_path / "prepared")
    planned = mix(planned_own, [(planned_facts, 5)], seed=1, folder=None)
    assert planned.folder is None
    assert planned.summary == written.summary
    assert planned.digests.tolist() == written.digests.tolist()


def test_the_seed_decides_and_less_is_the_beginning_of_more(
    files: tuple[Path, Path, Path], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    own, facts, _ = (prepare(path, chatml, MAX_SEQ_LEN, folder) for path in files)
    more = mix(own, [(facts, 12)], seed=1, folder=folder)
    assert rows(mix(own, [(facts, 5)], seed=1, folder=folder)) == rows(more)[:7]
    assert rows(mix(own, [(facts, 12)], seed=2, folder=folder)) != rows(more)
    assert mix(own, [(facts, 12)], seed=1, folder=folder).folder == more.folder, "found again"
    folders = {mix(own, [(facts, count)], seed=seed, folder=folder).folder for count in (5, 12) for seed in (1, 2)}
    assert len(folders) == 4
