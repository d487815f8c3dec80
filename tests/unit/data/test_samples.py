"""Tokenised samples on disk are used only if they are what was written."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import make_samples

from osftx.data import samples
from osftx.data.samples import (
    INDEX_FILE,
    SAMPLES_FILE,
    SUMMARY_FILE,
    DataSummary,
    prepared_folders,
    remove_prepared,
    write_index,
    write_once,
)
from osftx.errors import ConfigurationError
from osftx.utils import known_digests


class Writer:
    """Writes some samples, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, place: Path) -> None:
        self.times += 1
        shutil.rmtree(place)
        make_samples(place, 4)
        write_index(place, DataSummary("a.jsonl", samples=4), np.ones(4), np.ones(4))


@pytest.mark.parametrize("name", [SAMPLES_FILE, INDEX_FILE, SUMMARY_FILE])
def test_data_of_another_content_is_made_anew(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write, target = Writer(), tmp_path / "data" / "abc"
    for _ in range(2):
        write_once(target, write)
    assert write.times == 1
    whole = (target / name).read_bytes()
    times = (target / name).stat()
    changed = whole.replace(b'"samples": 4', b'"samples": 5') if name == SUMMARY_FILE else whole[:-9] + bytes(9)
    assert changed != whole
    (target / name).write_bytes(changed if len(changed) == len(whole) else whole[::-1])
    os.utime(target / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    write_once(target, write)
    assert write.times == 2
    shown = capsys.readouterr().out
    assert f"{name} has another content); it is made anew" in shown
    assert (target / name).read_bytes() == whole


def test_data_that_was_not_touched_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "SETTLED_S", -1.0)
    write, target = Writer(), tmp_path / "data" / "abc"
    for _ in range(2):
        write_once(target, write)
    monkeypatch.setattr(known_digests, "digest", lambda path: pytest.fail("read again"))
    write_once(target, write)
    assert write.times == 1
    remove_prepared(target.parent, prepared_folders(target.parent))
    assert not target.parent.exists()


def test_data_that_cannot_be_read_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, target = Writer(), tmp_path / "data" / "abc"
    write_once(target, write)
    opened = Path.open

    def refused(path: Path, *arguments: Any, **settings: Any) -> Any:
        if path.name == SAMPLES_FILE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigurationError, match=r"samples\.arrow: Permission denied: ask for the right to read it"):
        write_once(target, write)
    assert (target / samples.SAMPLES_FILE).is_file()
