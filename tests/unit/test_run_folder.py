"""The folder of a run."""

from pathlib import Path

from osftx.run_folder import dated


def test_runs_that_start_in_the_same_second_get_a_folder_each(tmp_path: Path) -> None:
    folders = []
    for _ in range(3):
        folders.append(dated(tmp_path / "outputs"))
        folders[-1].mkdir(parents=True)
    assert len(set(folders)) == 3
    assert all(folder.parent == tmp_path / "outputs" for folder in folders)
