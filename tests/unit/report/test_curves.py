"""How much was kept at each amount learned: the numbers behind the figures."""

from pathlib import Path

import pytest
from report_folders import CONFIG, add_curves, edit, make_run_folder, read

from osftx.report.curves import set_curves, trade_offs
from osftx.results.run_reader import read_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = make_run_folder(tmp_path)
    add_curves(folder)
    return folder


def test_a_phase_goes_from_what_was_before_it_to_its_last_step(run_folder: Path) -> None:
    knowledge, skills = trade_offs(read_run(run_folder))
    assert knowledge.learned == pytest.approx([0.0, 0.246, 0.492, 0.738, 0.984])
    assert (knowledge.kept[0], knowledge.kept[-1]) == (0.911, 0.902)
    assert (skills.place, skills.learned[0], skills.learned[-1]) == (1, 0.0, 0.765)


def test_kept_is_the_mean_of_all_sets_that_were_taught_before(run_folder: Path) -> None:
    _, skills = trade_offs(read_run(run_folder))
    assert skills.kept[0] == pytest.approx((0.902 + 0.984) / 2)
    assert skills.kept[-1] == pytest.approx((0.887 + 0.953) / 2)


def test_learned_in_says_which_phase_teaches_a_set(run_folder: Path) -> None:
    """Both sets belong to the second phase, so that the first one teaches nothing that was measured."""
    config = CONFIG.replace("{path: k_eval.jsonl}", "{path: k_eval.jsonl, learned_in: skills}")
    (run_folder / "config.yaml").write_text(config)
    (skills,) = trade_offs(read_run(run_folder))
    assert skills.learned[-1] == pytest.approx((0.953 + 0.765) / 2)
    assert skills.kept[-1] == 0.887


def test_a_set_of_a_phase_that_was_skipped_was_taught_before(run_folder: Path) -> None:
    edit(run_folder / "plan.json", phases=read(run_folder / "plan.json")["phases"][1:])
    (skills,) = trade_offs(read_run(run_folder))
    assert skills.place == 0
    assert skills.kept[-1] == pytest.approx((0.887 + 0.953) / 2)


def test_without_a_configuration_nobody_knows_what_a_phase_teaches(run_folder: Path) -> None:
    (run_folder / "config.yaml").unlink()
    run = read_run(run_folder)
    assert trade_offs(run) == []
    assert len(set_curves(run)) == 6


def test_the_steps_of_a_phase_follow_those_before_it(run_folder: Path) -> None:
    curves = set_curves(read_run(run_folder))
    assert [(curve.set_name, curve.place) for curve in curves] == [
        (name, place) for place in (0, 1) for name in ("base", "knowledge", "skills")
    ]
    assert {tuple(curve.steps) for curve in curves[:3]} == {(0, 5, 10, 15, 20)}
    assert {tuple(curve.steps) for curve in curves[3:]} == {(20, 25, 30, 35, 40)}


def test_a_phase_without_measurements_is_left_out(run_folder: Path) -> None:
    first, second = read(run_folder / "results.json")["phases"]
    edit(run_folder / "results.json", phases=[{**first, "curve": []}, second])
    run = read_run(run_folder)
    assert [path.place for path in trade_offs(run)] == [1]
    assert [curve.steps[0] for curve in set_curves(run)] == [20, 20, 20]
