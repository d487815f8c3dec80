"""The names of a phase's saves."""

from pathlib import Path

from osftx.config.run_layout import save_folder, saved_steps


def test_the_newest_save_comes_first(tmp_path: Path) -> None:
    for steps in (2, 10, 100000000 - 1):
        save_folder(tmp_path, steps).mkdir()
    (tmp_path / "step_00000012.partial").mkdir()
    (tmp_path / "bases").mkdir()
    assert saved_steps(tmp_path) == [99999999, 10, 2]


def test_nothing_was_saved(tmp_path: Path) -> None:
    assert saved_steps(tmp_path) == []
    assert saved_steps(tmp_path / "nowhere") == []
