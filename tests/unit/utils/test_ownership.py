"""Who may have written what is read."""

import os
from pathlib import Path

import pytest

from osftx.utils import ownership
from osftx.utils.ownership import close_to_others, not_ours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "room" / "save").mkdir(parents=True)
    (tmp_path / "room" / "save" / "file").write_text("x")
    for path in (tmp_path / "room", tmp_path / "room" / "save"):
        path.chmod(0o755)
    (tmp_path / "room" / "save" / "file").chmod(0o664)  # a group may write
    return tmp_path / "room"


def test_what_this_user_wrote_is_ours(folder: Path) -> None:
    assert not_ours(folder) is None


@pytest.mark.parametrize("name", [".", "save", "save/file"])
def test_what_every_user_can_write_is_not(folder: Path, name: str) -> None:
    (folder / name).chmod(0o777)
    assert f"every user can write {folder / name}" in (not_ours(folder) or "")
    if name != ".":
        close_to_others(folder)  # nobody else gets there
        assert not_ours(folder) is None


def test_links_are_not(folder: Path) -> None:
    (folder / "step").symlink_to("/elsewhere")
    assert "step is a link" in (not_ours(folder) or "")


def test_what_another_user_owns_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "ROOT", -1)
    monkeypatch.setattr(ownership, "_owner_of_new_files", lambda place: 4_000_000)
    monkeypatch.setattr(ownership.os, "geteuid", lambda: 4_000_000)
    assert "belongs to the user" in (not_ours(folder) or "")


def test_a_file_system_may_map_this_user_to_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "ROOT", -1)
    monkeypatch.setattr(ownership.os, "geteuid", lambda: os.getuid() + 1)
    assert not_ours(folder) is None
