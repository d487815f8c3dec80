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


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
REFERENCES = "a0: x\n" + "".join(f"a{n}: ${{a{n - 1}}}${{a{n - 1}}}\n" for n in range(1, 60))
COPIES = "a0: {x: 1}\n" + "".join(f"a{n}: {{x: '${{a{n - 1}}}', y: '${{a{n - 1}}}'}}\n" for n in range(1, 60))
DEEP = 100_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.yaml", LAUGHS, "has an alias (*a0)"),
        ("phases/02_skills/phase.yaml", LAUGHS, "has an alias (*a0)"),
        ("config.yaml", REFERENCES, "grow without end"),
        ("config.yaml", COPIES, "grow without end"),
        ("config.yaml", "name: ${name}", "${name} leads back to itself"),
        ("config.yaml", "[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("config.yaml", f"name: ${{a}}{'x' * DEEP}", "an interpolation of 100004 characters"),
        ("config.yaml", "training: {learning_rate: '${oc.decode:${oc.env:SECRET}}'}", "learning_rate"),
        ("config.yaml", f"training: {{seed: {'9' * 5000}}}", "ValueError"),
        ("results.json", '{"phases": ' + "[" * DEEP, "nested more than 50 deep"),
        ("results.json", '{"phases": [], "summary": {"a": NaN}}', "NaN is no number"),
        ("results.json", '{"phases": [], "summary": {"a": 1e999}}', "1e999 is no number"),
        ("results.json", f'{{"phases": [], "summary": {{"a": 1{"0" * DEEP}}}}}', "is no number"),
        ("results.json", "[1, 2]", "TypeError"),
        ("results.json", '{"phases": 3}', "TypeError"),
        ("plan.json", '{"phases": [{"name": "../../../etc", "index": 0}]}', "a phase is called '../../../etc'"),
        ("phases/02_skills/metrics.jsonl", '{"step": 1, "time_per_batch": "long"}', "'long', not a number"),
        ("phases/02_skills/metrics.jsonl", "[1]", "TypeError"),
    ],
    ids=range(18),
)
def test_a_folder_of_somebody_else_is_told_in_one_line(
    tmp_path: Path, name: str, content: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1e-3")
    folder = write_run(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(ConfigurationError) as raised:
        read_whole_run(folder)
    (problem,) = raised.value.problems
    assert says in problem
    assert "\n" not in problem
    assert len(problem) < 1000


def test_the_environment_of_the_reader_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the reader")
    settings = {"model.path": "${oc.env:SECRET}/${name}", "preserve.data.path": "${name}.jsonl"}
    folder = write_run(tmp_path / "run", settings=settings)
    config = read_whole_run(folder).config
    assert config.model.path == "${oc.env:SECRET}/study"
    assert config.preserve.data.path == "study.jsonl"
    own = read_run(folder, own=True).config
    assert own.model.path == "of the reader/study"


def test_what_a_terminal_would_obey_is_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"name": "\x1b]0;owned\x07study\x9b"}))
    assert read_run(folder).name == "\\x1b]0;owned\\x07study\\x9b"
