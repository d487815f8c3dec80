from pathlib import Path

import pytest
from synthetic_runs import write_run

from osftx.compare.groups import Group, group_problems, groups_of
from osftx.compare.runs import LabelledRun
from osftx.results.whole_run import read_whole_run

SFT = {"phases.knowledge.method": "sft", "phases.skills.method": "sft"}
ACTIVATIONS = {"osft.subspace": "activations", "preserve.data.path": "keep.jsonl"}


def grouped(folder: Path, *runs: dict) -> list[Group]:
    """Groups of runs with these settings; `seed` and `label` are not settings."""
    records = []
    for place, settings in enumerate(runs):
        label, seed = settings.pop("label", None), settings.pop("seed", 42)
        contents = settings.pop("contents", "0123")
        run = read_whole_run(write_run(folder / str(place), seed=seed, settings=settings, contents=contents))
        records.append(LabelledRun(run, label))
    return groups_of(records)


def labels(groups: list[Group]) -> list[str]:
    return [group.label for group in groups]


def test_seeds_are_one_group(tmp_path: Path) -> None:
    (group,) = grouped(tmp_path, {"seed": 42}, {"seed": 43}, {"phases.skills.seed": 7})
    assert [run.seeds for run in group.runs] == [(42,), (43,), (42, 7)]
    assert list(group_problems([group])) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"output_dir": "elsewhere", "store_dir": "other", "reuse": False, "name": "second"},
        {"distributed.nproc_per_node": 2, "checkpointing.every_steps": 5, "objective": "summary.forgetting"},
        {"osft.save_bases": False, "phases.skills.max_tokens_per_gpu": 100, "training.activation_checkpointing": False},
        {"schedule.kind": "explicit", "schedule.ratios": [0.3, 0.2]},
        {"preserve.data.path": "never_read.jsonl"},
    ],
)
def test_what_decides_nothing_makes_no_group(tmp_path: Path, settings: dict) -> None:
    (group,) = grouped(tmp_path, {"seed": 1}, {"seed": 2, **settings})
    assert len(group.runs) == 2


def test_methods_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    groups = grouped(tmp_path, {}, dict(ACTIVATIONS), {**SFT, "training.learning_rate": 2e-4})
    assert labels(groups) == [
        "method=osft, subspace=weights",
        "method=osft, subspace=activations",
        "method=sft",
    ]
    assert groups[2].settings["phases.*.learning_rate"] == "0.0002"
    assert "preserve.data.path" not in groups[0].settings
    assert groups[1].settings["preserve.data.path"] == "keep.jsonl"


def test_a_setting_of_one_phase_names_the_phase(tmp_path: Path) -> None:
    groups = grouped(tmp_path, {}, {"phases.skills.learning_rate": 1e-3})
    assert labels(groups) == ["skills.learning_rate=5e-06", "skills.learning_rate=0.001"]


def test_one_key_for_all_phases_has_one_name(tmp_path: Path) -> None:
    groups = grouped(tmp_path, {"training.num_epochs": 3}, {"training.num_epochs": 4})
    assert labels(groups) == ["num_epochs=3", "num_epochs=4"]
    assert groups[0].settings == {"phases.*.num_epochs": "3"}


def test_names_of_experiments_are_labels_where_they_differ(tmp_path: Path) -> None:
    runs = [{"name": "plain", **SFT, "seed": seed} for seed in (1, 2)] + [{"name": "ours", "seed": 1}]
    assert labels(grouped(tmp_path, *runs)) == ["plain", "ours"]
    two_names = [{"name": "a", "seed": 1}, {"name": "b", "seed": 2}, {"name": "c", **SFT}]
    assert labels(grouped(tmp_path / "more", *two_names)) == ["method=osft", "method=sft"]


def test_given_labels_win(tmp_path: Path) -> None:
    groups = grouped(tmp_path, {"label": "ours"}, {**SFT})
    assert labels(groups) == ["ours", "method=sft"]


def test_a_label_hides_no_difference(tmp_path: Path) -> None:
    groups = grouped(tmp_path, {"label": "ours"}, {"label": "ours", "phases.skills.num_epochs": 9, "seed": 1})
    (problem,) = group_problems(groups)
    assert "--label ours: its runs differ in skills.num_epochs" in problem


def test_the_same_file_under_another_path_is_the_same_data(tmp_path: Path) -> None:
    moved = {"phases.skills.data.path": "/moved/skills.jsonl"}
    (group,) = grouped(tmp_path, {"seed": 1}, {"seed": 2, **moved})
    assert len(group.runs) == 2


def test_another_content_under_the_same_path_is_other_data(tmp_path: Path) -> None:
    groups = grouped(tmp_path, {"seed": 1, "contents": "aa"}, {"seed": 2, "contents": "bb"})
    assert [len(group.runs) for group in groups] == [1, 1]
    assert groups[1].settings["phases.skills.data.path"] == "skills.jsonl (skillsbb)"


def test_the_samples_that_a_seed_replays_make_no_group(tmp_path: Path) -> None:
    (group,) = grouped(tmp_path, {"seed": 1, "contents": "aa-1"}, {"seed": 2, "contents": "aa-2"})
    assert len(group.runs) == 2


def test_a_repeat_is_no_second_seed(tmp_path: Path) -> None:
    (problem,) = group_problems(grouped(tmp_path, {"seed": 5}, {"seed": 5, "reuse": False}))
    assert "no second sample" in problem
