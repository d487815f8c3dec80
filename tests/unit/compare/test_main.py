"""The command itself, on run folders that the tests write."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from synthetic_runs import CAREFUL, PLAIN, shifted, write_run

from osftx.compare.__main__ import main

pytestmark = pytest.mark.process

SFT = {"phases.knowledge.method": "sft", "phases.skills.method": "sft", "name": "plain"}
OURS = {"name": "ours"}
LABELS = ["plain", "ours"]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three seeds of each of two groups; a seed moves what both keep of the base."""
    folders = []
    for seed, by in ((1, -0.02), (2, 0.0), (3, 0.02)):
        folders.append(write_run(tmp_path / f"plain{seed}", shifted(PLAIN, by), seed, settings=SFT))
    for seed, by in ((1, -0.02), (2, 0.0), (3, 0.01)):
        folders.append(write_run(tmp_path / f"ours{seed}", shifted(CAREFUL, by), seed, settings=OURS))
    return [str(folder) for folder in folders]


def compared(output: Path, *words: str) -> dict:
    assert main([*words, "--output", str(output)]) == 0
    return json.loads((output / "comparison.json").read_text())


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said of arguments that are wrong."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("osftx.compare: ")
    return said.err


def test_what_is_kept_at_the_same_learning(runs: list[str], tmp_path: Path) -> None:
    found = compared(tmp_path / "out", *runs)
    plain, ours = found["groups"]
    assert [group["label"] for group in found["groups"]] == LABELS
    assert found["level"] == 0.9  # the most of ours; plain gets to 1
    assert found["sets"] == {"taught": ["skills"], "base": ["base"], "earlier": ["knowledge"]}
    # Plain at 0.9: four fifths of the way from step 10 to step 20.
    assert plain["steps"]["mean"] == pytest.approx(18)
    assert plain["kept"]["base"]["mean"] == pytest.approx(0.42)
    assert plain["kept"]["earlier"]["mean"] == pytest.approx(0.38)
    assert plain["kept"]["all"]["mean"] == pytest.approx(0.40)
    assert plain["kept"]["base"]["half_width"] == pytest.approx(4.303 * 0.02 / 3**0.5)
    assert plain["difference"] == {}
    # By seed the differences on the base are 0.48, 0.48 and 0.47, narrower than what each group spreads.
    assert ours["difference"]["base"]["mean"] == pytest.approx(1.43 / 3)
    assert ours["difference"]["base"]["half_width"] == pytest.approx(4.303 * 0.0057735 / 3**0.5, rel=1e-4)
    assert ours["difference"]["earlier"]["mean"] == pytest.approx(0.52)
    assert found["answers"]["ours"].startswith(
        "ours keeps 0.498 more than plain at skills accuracy 0.900 (95% interval 0.491 to 0.506, 3 seeds)"
    )


def test_whole_runs(runs: list[str], tmp_path: Path) -> None:
    measures = compared(tmp_path / "out", *runs)["groups"][0]["measures"]
    assert measures["average_accuracy"]["mean"] == pytest.approx(1.7 / 3)
    assert (measures["tokens"]["mean"], measures["training_s"]["mean"]) == (pytest.approx(3004), 30)
    assert measures["peak_memory_gb"]["mean"] == pytest.approx(2.2)
    assert measures["backward_transfer"] is None


def test_less_learned_is_not_rewarded(tmp_path: Path) -> None:
    """A run that has stopped earlier on the very same curve keeps more at its end, and nothing more at that level."""
    whole = write_run(tmp_path / "whole", PLAIN, settings=OURS)
    half = write_run(
        tmp_path / "half",
        [PLAIN[0], (5, 0.55, 0.8, 0.25), PLAIN[1]],
        settings={"training.num_epochs": 1, "name": "half"},
    )
    found = compared(tmp_path / "out", str(whole), str(half))
    assert found["level"] == 0.5
    assert found["groups"][1]["difference"]["all"]["mean"] == 0
    assert found["answers"]["half"].startswith("half keeps as much as ours at skills accuracy 0.500")
    assert any("is the most that" in note for note in found["notes"])


def test_a_level_that_is_asked_for(runs: list[str], tmp_path: Path) -> None:
    found = compared(tmp_path / "out", *runs, "--at", "0.95")
    assert found["groups"][0]["kept"]["base"]["mean"] == pytest.approx(0.41)
    assert found["groups"][1]["kept"]["all"] is None
    assert found["answers"]["ours"] == "ours never reaches 0.950 in skills (at most 0.900)."


def test_seeds_that_do_not_reach_the_level_are_told(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a", PLAIN, 1), write_run(tmp_path / "b", CAREFUL, 2)]
    found = compared(tmp_path / "out", *map(str, folders), "--at", "0.95")
    assert any("Only 1 of the 2 seeds of study reach 0.950" in note for note in found["notes"])
    assert found["answers"]["study"].endswith("(1 seed); there is no other group to compare it with.")


def test_a_run_that_learns_nothing_decides_nothing(tmp_path: Path) -> None:
    still = [(step, 1.0, 0.9, 0.0) for step in (0, 10, 20)]
    folders = [write_run(tmp_path / "a", PLAIN, settings=SFT), write_run(tmp_path / "b", still, settings=OURS)]
    found = compared(tmp_path / "out", *map(str, folders))
    assert "no answer" in found["answers"]["ours"]
    assert any("nothing learned is compared" in note for note in found["notes"])


def test_an_earlier_phase_that_was_learned_less_is_told(tmp_path: Path) -> None:
    lazy = [(step, base, knowledge - 0.5, skills) for step, base, knowledge, skills in CAREFUL]
    folders = [write_run(tmp_path / "a", PLAIN, settings=SFT), write_run(tmp_path / "b", lazy, settings=OURS)]
    found = compared(tmp_path / "out", *map(str, folders))
    assert found["groups"][1]["learned_before"]["knowledge"]["mean"] == pytest.approx(0.4)
    assert "but knowledge had been learned less (0.400 against 0.900)" in found["answers"]["ours"]


def test_without_curves_only_the_ends_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = write_run(tmp_path / "plain", PLAIN, with_curve=False, settings=SFT)
    ours = write_run(tmp_path / "ours", CAREFUL, settings=OURS)
    found = compared(tmp_path / "out", str(plain), str(ours))
    assert found["level"] is None
    assert found["no_curve"] == [str(plain)]
    assert [group["learning"]["mean"] for group in found["groups"]] == [1.0, 0.9]
    assert "says nothing at the same learning: it has learned less" in found["answers"]["ours"]
    said = " ".join(capsys.readouterr().out.split())
    assert "only the states after skills can be compared" in said
    assert "The comparison is not at the same learning: ours ends at 0.900, plain at 1.000" in said


def test_who_keeps_more_and_has_learned_more_needs_no_curve(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", CAREFUL, with_curve=False, settings=OURS)
    worse = write_run(tmp_path / "plain", [(0, 0.6, 0.9, 0.0), (20, 0.4, 0.3, 0.5)], with_curve=False, settings=SFT)
    answer = compared(tmp_path / "out", str(worse), str(ours))["answers"]["ours"]
    assert answer.endswith("although it has learned more.")


def test_one_seed_has_no_interval(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(tmp_path / "out", runs[0], runs[3])
    assert found["groups"][1]["difference"]["all"]["half_width"] is None
    assert "by 1 seed: no interval" in found["answers"]["ours"]
    out = capsys.readouterr().out
    assert "One seed, so no interval: plain; ours." in out
    table = out.partition("Kept at")[2].partition("└")[0]
    assert "±" not in table and "none" in table


def test_seeds_that_agree_are_no_certainty(tmp_path: Path) -> None:
    folders = []
    for name, by, settings in (("a", 0.0, SFT), ("b", 0.025, OURS)):
        folders += [
            write_run(tmp_path / f"{name}{seed}", shifted(PLAIN, by), seed, settings=settings) for seed in (1, 2)
        ]
    found = compared(tmp_path / "out", *map(str, folders))
    assert "more than plain" in found["answers"]["ours"]
    assert "by 2 seeds, all alike: no interval" in found["answers"]["ours"]


def test_the_pairs_behind_an_interval_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / f"a{seed}", PLAIN, seed, settings=SFT) for seed in (1, 2, 3)]
    folders += [write_run(tmp_path / f"b{seed}", shifted(PLAIN, seed / 50), seed, settings=OURS) for seed in (2, 3, 4)]
    compared(tmp_path / "out", *map(str, folders))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ ours") and " all " in line]
    *_, pairs, _, seeds, _ = [cell.strip() for cell in row.split("│")]
    assert (pairs, seeds) == ("2", "3")


def test_runs_on_other_devices_are_told(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", seed=1)
    other = write_run(tmp_path / "other", seed=2, device="NVIDIA H100")
    notes = compared(tmp_path / "out", str(one), str(other))["notes"]
    assert any("on different numbers or kinds of devices" in note for note in notes)


def test_a_run_without_its_phases_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    shutil.rmtree(run / "phases" / "02_skills")
    assert "phases/*_skills/phase.yaml is missing" in refused(capsys, str(run))


def test_what_the_seeds_do_not_show(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"a{seed}", PLAIN, seed, settings=SFT) for seed in (1, 2)]
    for seed, by in ((1, -0.1), (2, 0.15)):
        folders.append(write_run(tmp_path / f"b{seed}", shifted(PLAIN, by), seed, settings=OURS))
    answer = compared(tmp_path / "out", *map(str, folders))["answers"]["ours"]
    assert answer.startswith("No difference that 2 seeds can show between ours and plain")


def test_seeds_of_their_own_are_not_paired(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a", PLAIN, 1, settings=SFT), write_run(tmp_path / "b", CAREFUL, 2, settings=OURS)]
    assert "with no seed in common" in compared(tmp_path / "out", *map(str, folders))["answers"]["ours"]


def test_a_sweep_is_its_finished_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "multirun"
    for number, seed in ((0, 1), (10, 3), (2, 2)):
        write_run(sweep / str(number), PLAIN, seed)
    write_run(sweep / "3", PLAIN, 4, done=1)
    (sweep / "figures").mkdir()
    found = compared(tmp_path / "out", str(sweep))
    assert [Path(run["folder"]).name for run in found["groups"][0]["runs"]] == ["0", "2", "10"]
    said = " ".join(capsys.readouterr().out.split())
    assert "3 is left out: the run ended early or is not done: 1 of 2 phases" in said


def test_labels_name_groups_and_runs(runs: list[str], tmp_path: Path) -> None:
    words = ["--label", f"tuned={tmp_path}/ours*", runs[0], runs[1]]
    found = compared(tmp_path / "out", *words)
    assert [(group["label"], len(group["runs"])) for group in found["groups"]] == [("plain", 2), ("tuned", 3)]


def test_reused_phases_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_run(tmp_path / "a", reused=True))]) == 0
    said = capsys.readouterr().out
    assert "30 *" in said and "Phases were reused" in said


def test_an_earlier_phase_can_be_asked_for(tmp_path: Path) -> None:
    found = compared(tmp_path / "out", str(write_run(tmp_path / "a")), "--phase", "knowledge")
    assert found["level"] is None  # only skills has a curve
    assert found["sets"] == {"taught": ["knowledge"], "base": ["base"], "earlier": []}
    assert list(found["groups"][0]["kept"]) == ["all"]


@pytest.mark.parametrize("with_curve", [True, False])
def test_the_files(runs: list[str], tmp_path: Path, with_curve: bool) -> None:
    if not with_curve:
        runs.append(str(write_run(tmp_path / "bare", PLAIN, 9, with_curve=False, settings=SFT)))
    compared(tmp_path / "out", *runs)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.json",
        "comparison.md",
        "comparison.png",
    ]
    with Image.open(tmp_path / "out" / "comparison.png") as image:
        assert image.format == "PNG"
        image.verify()
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "(comparison.png)" in page
    columns = [line.count("|") for line in page.splitlines() if line.startswith("| group") or line.startswith("| ours")]
    assert len(columns) == 4 and columns[0] == columns[1] and columns[2] == columns[3]


def test_a_bar_in_a_label_breaks_no_table(runs: list[str], tmp_path: Path) -> None:
    compared(tmp_path / "out", runs[0], "--label", f"a|b={runs[3]}")
    assert "| a\\|b |" in (tmp_path / "out" / "comparison.md").read_text()


def test_every_wrong_folder_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, early = write_run(tmp_path / "good"), write_run(tmp_path / "early", done=1, seed=1)
    started, damaged = write_run(tmp_path / "started", seed=2), write_run(tmp_path / "damaged", seed=3)
    (started / "results.json").unlink()
    (damaged / "results.json").write_text("{")
    (tmp_path / "empty").mkdir()
    names = (tmp_path / "none", tmp_path / "empty", early, started, damaged, good, good)
    said = refused(capsys, *map(str, names), "--label", "nothing", "--at", "1.5")
    for part in (
        "8 problems",
        "--label nothing: must be NAME=FOLDER",
        "--at 1.5: exact match is above 0 and at most 1",
        "none: there is no such folder",
        "empty: neither a run nor a sweep",
        "early: the run ended early or is not done: 1 of 2 phases",
        "started: no results.json, the run ended early",
        "damaged: cannot be read (JSONDecodeError",
        "good: given twice",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"sets": ("base", "knowledge")}, "evaluation sets base, knowledge instead of base, knowledge, skills"),
        ({"contents": "9999"}, "other questions in the evaluation set base"),
        ({"settings": {"evaluation.sets.base.learned_in": "skills"}}, "base learned in skills instead of base"),
        ({"start": "other", "settings": {"model.path": "models/other"}}, "model models/other instead of models/tiny"),
        ({"start": "other"}, "models/tiny was another model then"),
    ],
)
def test_another_experiment_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict, words: str
) -> None:
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second", seed=1, **other)
    said = refused(capsys, str(first), str(second))
    assert "another experiment than" in said
    assert words in said


def test_other_phases_are_another_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_run(tmp_path / "whole")
    later = write_run(tmp_path / "later", seed=1, settings={"phases.skills.init_from": "somewhere"})
    plan, results = (json.loads((later / name).read_text()) for name in ("plan.json", "results.json"))
    for content in (plan, results):
        del content["phases"][0]
    for rows in results["retention"]["metrics"].values():
        del rows[0]
    (later / "plan.json").write_text(json.dumps(plan))
    (later / "results.json").write_text(json.dumps(results))
    assert "phases skills instead of knowledge, skills" in refused(capsys, str(whole), str(later))
    assert main([str(later)]) == 0


def test_a_moved_model_is_the_same_model(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1, settings={"model.path": "/moved/tiny"})]
    assert len(compared(tmp_path / "out", *map(str, folders))["groups"]) == 1


def test_wrong_options_are_refused(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such phase; give one of knowledge, skills" in refused(capsys, *runs, "--phase", "code")
    assert "--at 0.9999: no run reaches it; give 0.9 or less" in refused(capsys, *runs[3:], "--at", "0.9999")
    assert "no folder is called so" in refused(capsys, *runs, "--label", f"x={tmp_path}/nothing*")
    assert "has the label a already" in refused(capsys, "--label", f"a={runs[0]}", "--label", f"b={runs[0]}")
    assert "no run is named" in refused(capsys)
    bare = write_run(tmp_path / "bare", with_curve=False)
    assert "there is no curve to find it on" in refused(capsys, str(bare), "--at", "0.5")


def test_what_was_not_measured_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = write_run(tmp_path / "nothing", sets=())
    assert "no evaluation sets, so nothing was measured" in refused(capsys, str(nothing))
    untaught = write_run(tmp_path / "untaught", sets=("base", "knowledge"))
    assert "no evaluation set shows what it taught; give --phase knowledge" in refused(capsys, str(untaught))
    alone = write_run(tmp_path / "alone", settings={"evaluation.sets.base.learned_in": "skills"}, sets=("base",))
    assert "no evaluation set was taught before it" in refused(capsys, str(alone))


def test_a_curve_that_lacks_a_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    del results["phases"][1]["curve"][1]["evaluation"]["base"]
    (run / "results.json").write_text(json.dumps(results))
    assert "the curve of skills lacks base at step 10" in refused(capsys, str(run))


def test_two_ends_are_no_curve(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", curve=[PLAIN[0], PLAIN[-1]])
    assert compared(tmp_path / "out", str(run))["no_curve"] == [str(run)]


def test_a_folder_that_does_not_fit_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    results["retention"]["sets"][0] = "other"
    (run / "results.json").write_text(json.dumps(results))
    assert "config.yaml has no evaluation set other" in refused(capsys, str(run))
    results["retention"]["sets"][0] = "base"
    results["retention"]["metrics"]["exact_match"].pop()
    (run / "results.json").write_text(json.dumps(results))
    assert "has not one row a phase" in refused(capsys, str(run))
    plan = json.loads((run / "plan.json").read_text())
    for content in (plan, results):
        del content["phases"][0]
    (run / "plan.json").write_text(json.dumps(plan))
    (run / "results.json").write_text(json.dumps(results))
    assert "are of different phases" in refused(capsys, str(run))
    (run / "config.yaml").write_text("name: study\nunheard_of: 1\n")
    assert "unheard_of" in refused(capsys, str(run))


def test_an_output_that_cannot_be_written(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([*runs, "--output", str(tmp_path / "file")]) == 2
    assert f"--output {tmp_path / 'file'}: cannot be written" in capsys.readouterr().err


def test_as_a_program_it_needs_no_torch(runs: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from osftx.compare.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'deepspeed', 'datasets', 'hydra', 'scipy'}\n"
        "sys.exit(code or ', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    words = [*runs, "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    missing = [sys.executable, "-m", "osftx.compare", str(tmp_path / "nowhere")]
    done = subprocess.run(missing, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "there is no such folder" in done.stderr
