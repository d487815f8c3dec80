"""Folders that are not there yet, and those that nobody may look into."""

import os
from pathlib import Path
from typing import Any

import pytest

from osftx.utils.files import nearest


def test_the_nearest_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    assert nearest(tmp_path / "here") == nearest("~/here") == nearest("~/here/not/yet") == tmp_path / "here"


def test_the_nearest_folder_above_one_that_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, look = tmp_path / "closed", os.stat
    (closed / "store").mkdir(parents=True)

    def stat(path: Any, *args: Any, **settings: Any) -> os.stat_result:
        if closed in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *args, **settings)

    monkeypatch.setattr(os, "stat", stat)
    assert nearest(closed / "store") == closed
