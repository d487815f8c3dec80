"""Run folders as they are read: leniently where a run ended early, strictly where whole runs are compared."""

import json
import shutil
from pathlib import Path

import pytest
from report_folders import make_run_folder
from synthetic_runs import write_run

from osftx.errors import ConfigurationError
from osftx.results.run_reader import read_phase_result, read_run, read_settings
from osftx.results.whole_run import read_whole_run, why_unfinished


def test_a_whole_run(tmp_path: Path) -> None:
    run = read_whole_run(write_run(tmp_path / "run", seed=7, reused=True))
    assert (run.name, run.phase_names, run.seeds, run.reused) == ("study", ["knowledge", "skills"], (7,), True)
    assert run.ratios == {"knowledge": 0.3, "skills": 0.2}
    assert run.tokens == 3014
    assert run.training_s == 30
    assert run.peak_memory_gb == pytest.approx(2.2)
    assert run.devices == {("cpu", 2)}
    assert run.contents["phases.skills.data.path"] == "skills0123"
    assert run.contents["evaluation.sets.base.path"] == "base0123"
    assert run.exact_match[1] == {"base": 0.6, "knowledge": 0.9, "skills": 0.0}
    assert run.taught_in == {"base": "base", "knowledge": "knowledge", "skills": "skills"}
    assert (run.sets_taught_in("skills"), run.sets_to_keep("skills")) == (["skills"], ["base", "knowledge"])
    assert [len(phase.curve) for phase in run.phases] == [0, 3]


def test_phases_with_seeds_of_their_own(tmp_path: Path) -> None:
    run = read_whole_run(write_run(tmp_path / "run", seed=7, settings={"phases.skills.seed": 8}))
    assert run.seeds == (7, 8)
    assert [phase.seed for phase in run.phases] == [7, 8]


def test_a_run_that_has_only_a_plan(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    for name in ("results.json", "config.yaml"):
        (folder / name).unlink()
    shutil.rmtree(folder / "phases")
    run = read_run(folder)
    assert [(phase.label, phase.result, phase.record, phase.steps) for phase in run.phases] == [
        ("1 knowledge", {}, None, []),
        ("2 skills", {}, None, []),
    ]
    assert (run.retention["sets"], run.benchmarks["tasks"], run.summary, run.exact_match) == ([], [], {}, [])
    assert (run.taught_in, run.sets_to_keep("skills"), run.contents, run.devices) == ({}, [], {}, frozenset())
    assert (run.command, run.versions, run.peak_memory_gb, run.tokens, run.reused) == (None, {}, None, 0, False)
    with pytest.raises(FileNotFoundError, match=r"config\.yaml"):
        _ = run.config


def test_a_run_that_ended_early_is_read_by_reports_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=1)
    assert [bool(phase.result) for phase in read_run(folder).phases] == [True, False]
    assert why_unfinished(folder) == "the run ended early or is not done: 1 of 2 phases"
    with pytest.raises(ConfigurationError, match="1 of 2 phases; give the run's command again, or leave it out"):
        read_whole_run(folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.yaml", None, "FileNotFoundError"),
        ("config.yaml", "name: study\nunheard_of: 1\n", "unheard_of"),
        ("plan.json", "{", "JSONDecodeError"),
        ("phases/02_skills/metrics.jsonl", '{"step": 1}\n', "KeyError: 'time_per_batch'"),
        ("phases/02_skills/result.json", '{"device": "cpu"}', "KeyError: 'world_size'"),
        ("phases/02_skills/result.json", "{}", "KeyError: 'device'"),
        ("phases/02_skills/phase.yaml", None, "phases/*_skills/phase.yaml is missing"),
    ],
)
def test_what_a_comparison_needs_must_be_there(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ConfigurationError) as raised:
        read_whole_run(folder)
    (problem,) = raised.value.problems
    assert problem.startswith(f"{folder}: cannot be read (")
    assert says in problem


def test_single_files(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path)
    assert read_settings(folder)["training"] == {"seed": 42}
    result = folder / "phases" / "01_knowledge"
    assert read_phase_result(result) == json.loads((result / "result.json").read_text())
