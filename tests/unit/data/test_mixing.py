"""Replay and weights: how many samples, which ones, and the file that holds them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from osftx.config.schema import DataConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.mixing import DRAWN, mix, replayed_samples
from osftx.data.prepare import prepare
from osftx.data.samples import Prepared, load_samples, sample_lengths

MAX_SEQ_LEN = 60


def write(path: Path, answers: list[str]) -> DataConfig:
    turns = [[{"role": "user", "content": "1"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return DataConfig(path=str(path))


@pytest.fixture
def files(tmp_path: Path) -> tuple[DataConfig, DataConfig, DataConfig]:
    """The phase's own file and two earlier ones."""
    return (
        write(tmp_path / "own.jsonl", ["own a", "own b"]),
        write(tmp_path / "facts.jsonl", [f"fact {number}" for number in range(600)]),
        write(tmp_path / "base.jsonl", [f"base {number}" for number in range(10)]),
    )


def rows(prepared: Prepared) -> list[tuple[int, ...]]:
    assert prepared.folder is not None
    return [tuple(row["input_ids"]) for row in load_samples(prepared.folder)]


@pytest.mark.parametrize(
    ("available", "ratio", "expected"), [(30, 0.1, 3), (30, 0.01, 1), (30, 0.0, 0), (30, 1.0, 30), (120, 0.01, 2)]
)
def test_a_share_is_rounded_up(available: int, ratio: float, expected: int) -> None:
    assert replayed_samples(available, ratio, None) == expected


def test_a_number_is_taken_as_it_is() -> None:
    assert replayed_samples(30, None, 7) == 7


def test_the_mix_holds_the_phase_and_what_was_drawn(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    own, facts, base = (prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared") for data in files)
    mixed = mix(own, [(facts, 12), (base, 10)], seed=1, folder=tmp_path / "prepared")
    assert rows(mixed)[:2] == rows(own)
    from_facts, from_base = rows(mixed)[2:14], rows(mixed)[14:]
    assert len(set(from_facts)) == 12
    assert set(from_facts) <= set(rows(facts))
    assert max(map(rows(facts).index, from_facts)) >= 256, "of all that was written, not of the first batch alone"
    assert from_base != rows(base), "in the order of the draw"
    assert sorted(from_base) == sorted(rows(base)), "all of a source, none twice"
    assert mixed.summary.samples == 24
    assert mixed.summary.tokens == sum(map(len, rows(mixed))) == mixed.lengths.sum()
    assert mixed.lengths.tolist() == [len(row) for row in rows(mixed)]
    assert mixed.summary.path == str(files[0].path)
    assert mixed.digests.tolist()[2:14] == [facts.digests[rows(facts).index(row)] for row in from_facts], (
        "a sample keeps its digest"
    )


def test_without_a_folder_the_numbers_are_the_same(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    own, facts, _ = (prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared") for data in files)
    planned_own, planned_facts, _ = (prepare(data, chatml, MAX_SEQ_LEN, None) for data in files)
    written = mix(own, [(facts, 5)], seed=1, folder=tmp_path / "prepared")
    planned = mix(planned_own, [(planned_facts, 5)], seed=1, folder=None)
    assert planned.folder is None
    assert planned.summary == written.summary
    assert planned.digests.tolist() == written.digests.tolist()
    assert planned.content == written.content


def test_the_seed_decides_and_less_is_a_part_of_more(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    own, facts, _ = (prepare(data, chatml, MAX_SEQ_LEN, folder) for data in files)
    more = mix(own, [(facts, 12)], seed=1, folder=folder)
    assert set(rows(mix(own, [(facts, 5)], seed=1, folder=folder))) < set(rows(more))
    assert rows(mix(own, [(facts, 12)], seed=2, folder=folder)) != rows(more)
    assert mix(own, [(facts, 12)], seed=1, folder=folder).folder == more.folder, "found again"
    folders = {mix(own, [(facts, count)], seed=seed, folder=folder).folder for count in (5, 12) for seed in (1, 2)}
    assert len(folders) == 4


def test_a_weight_says_how_often_each_sample_is_there(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "prepared"
    own, facts, base = (prepare(data, chatml, MAX_SEQ_LEN, folder) for data in files)
    data = DataConfig(path=[files[0].path, files[1].path, files[2].path], weights=[3, 0, 2.5])
    weighted = prepare(data, chatml, MAX_SEQ_LEN, folder, seed=1)
    counts = Counter(rows(weighted))
    assert [counts[row] for row in rows(own)] == [3, 3]
    assert not set(rows(facts)) & set(counts)
    assert Counter(counts[row] for row in rows(base)) == {2: 5, 3: 5}
    assert weighted.folder is not None
    assert sample_lengths(load_samples(weighted.folder)).tolist() == weighted.lengths.tolist()
    assert weighted.summary.path == f"{files[0].path}, {files[2].path}"
    planned = prepare(data, chatml, MAX_SEQ_LEN, None, seed=1)
    assert planned.summary == weighted.summary
    assert planned.digests.tolist() == weighted.digests.tolist()
    assert prepare(data, chatml, MAX_SEQ_LEN, folder, seed=1).folder == weighted.folder, "found again"
    assert rows(prepare(data, chatml, MAX_SEQ_LEN, folder, seed=2)) != rows(weighted)


def test_a_weight_of_zero_leaves_the_draws_of_the_others(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    def drawn(first: float) -> set[tuple[int, ...]]:
        data = DataConfig(path=[files[0].path, files[2].path], weights=[first, 0.5])
        return set(rows(prepare(data, chatml, MAX_SEQ_LEN, tmp_path / "prepared", seed=1)))

    own = set(rows(prepare(files[0], chatml, MAX_SEQ_LEN, tmp_path / "prepared")))
    assert drawn(0) == drawn(1) - own


def test_weights_of_one_are_the_list_as_it_is(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    paths = [data.path for data in files]
    plain = prepare(DataConfig(path=paths), chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    weighted = prepare(DataConfig(path=paths, weights=[1, 1, 1]), chatml, MAX_SEQ_LEN, tmp_path / "prepared")
    assert rows(plain) == rows(weighted)
    assert plain.summary == weighted.summary


def test_another_draw_of_the_same_data_has_the_same_first_name(
    files: tuple[DataConfig, DataConfig, DataConfig], chatml: ChatTokenizer, tmp_path: Path
) -> None:
    """Runs of other seeds are compared as runs on the same data, also where a part was itself drawn."""
    folder = tmp_path / "prepared"
    weighted = DataConfig(path=[files[0].path, files[1].path], weights=[1, 0.5])
    base = prepare(files[2], chatml, MAX_SEQ_LEN, folder)

    def names(seed: int, count: int = 3) -> list[str]:
        drawn = prepare(weighted, chatml, MAX_SEQ_LEN, folder, seed=seed)
        mixed = mix(drawn, [(base, count)], seed, folder)
        assert mixed.folder is not None
        return mixed.folder.name.split(DRAWN)

    one, other, again, more = names(1), names(2), names(1), names(1, count=4)
    assert one == again
    assert one[0] == other[0] != more[0]
    assert one[1] != other[1]
