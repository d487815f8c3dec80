"""Tasks are found by name in YAML files, without the harness; what decides a task is in its fingerprint."""

from pathlib import Path
from typing import Any

import pytest

from osftx.config.schema import LmEvalConfig
from osftx.errors import ConfigurationError
from osftx.evaluation.lm_eval import tasks as module
from osftx.evaluation.lm_eval.tasks import Task, find_tasks

BUILT_IN = ("hellaswag", "gsm8k", "mmlu", "aclue_couplet_prediction")
"""Tasks and a group of the harness; the last one's YAML has its key in quotes."""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def find(folder: Path | None, *names: str, **settings: Any) -> dict[str, Task]:
    path = str(folder) if folder is not None else None
    return find_tasks(LmEvalConfig(tasks=list(names), include_path=path, **settings))


def refused(folder: Path | None, *names: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        find(folder, *names)
    return raised.value.problems


def test_nothing_is_looked_up_without_tasks() -> None:
    assert find_tasks(LmEvalConfig(include_path="nowhere")) == {}


def test_own_tasks_with_all_that_decides_them(tmp_path: Path) -> None:
    data = write(tmp_path, "data.jsonl", "{}\n")
    write(tmp_path, "tasks/base.yaml", f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n")
    write(tmp_path, "tasks/mine.yaml", "task: mine\ninclude: base.yaml\nprocess_docs: !function functions.process\n")
    write(tmp_path, "tasks/functions.py", "def process(docs): return docs\n")
    write(tmp_path, "tasks/other.yaml", "task: other\n")
    found = find(tmp_path / "tasks", "mine", "other")
    assert [path.name for path in found["mine"].files.values()] == [
        "mine.yaml",
        "base.yaml",
        "functions.py",
        "data.jsonl",
    ]
    assert [path.name for path in found["other"].files.values()] == ["other.yaml"]
    assert not found["mine"].built_in


def test_a_group_with_a_figure_has_the_files_of_its_members(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "task: a\ntag: letters\n")
    write(tmp_path, "b.yaml", "task: b\ntag: [letters]\n")
    members = "task: [a, {task: b, num_fewshot: 2}]\n"
    write(tmp_path, "whole.yaml", f"group: whole\n{members}aggregate_metric_list: [{{metric: acc}}]\n")
    write(tmp_path, "bare.yaml", f"group: bare\n{members}")
    found = find(tmp_path, "whole")["whole"]
    assert sorted(path.name for path in found.files.values()) == ["a.yaml", "b.yaml", "whole.yaml"]
    assert refused(tmp_path, "bare", "letters") == [
        "evaluation.lm_eval.tasks: bare: a group without a figure of its own; name its members: a, b",
        "evaluation.lm_eval.tasks: letters: a tag, which has no figure of its own; name its tasks: a, b",
    ]


def test_the_tasks_of_the_harness_are_found() -> None:
    found = find(None, *BUILT_IN)
    assert all(task.built_in and task.files == {} for task in found.values())


def test_unknown_tasks_are_told_with_near_ones_and_unreadable_files(tmp_path: Path) -> None:
    write(tmp_path, "mine.yaml", "task: mine_of_words\n")
    write(tmp_path, "wrong.yaml", "task: [\n")
    (problem,) = refused(tmp_path, "mine_of_word")
    assert "mine_of_word: neither a task nor a group of lm-eval" in problem
    assert "wrong.yaml: while parsing" in problem
    assert "did you mean mine_of_words" in problem


def test_missing_folders_data_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such folder" in refused(tmp_path / "none", "x")[0]
    write(tmp_path, "x.yaml", "task: x\ndataset_path: json\ndataset_kwargs: {data_files: none.jsonl}\n")
    assert "x: its data file none.jsonl is not there" in refused(tmp_path, "x")[0]
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    (problem,) = refused(tmp_path, "x")
    assert problem.startswith("evaluation.lm_eval.tasks=[x]: lm-eval is not installed; pip install 'osftx[eval]'")


def test_code_of_the_model_runs_only_where_that_is_said(tmp_path: Path) -> None:
    write(tmp_path, "code.yaml", "task: code\nunsafe_code: true\n")
    assert "confirm_run_unsafe_code=true" in refused(tmp_path, "code")[0]
    assert list(find(tmp_path, "code", confirm_run_unsafe_code=True)) == ["code"]


def test_a_file_that_includes_itself_is_no_task(tmp_path: Path) -> None:
    write(tmp_path, "loop.yaml", "task: loop\ninclude: loop.yaml\n")
    assert "includes itself" in refused(tmp_path, "loop")[0]
