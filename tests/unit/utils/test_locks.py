"""Locks between processes; a second lock object in the same process stands in for another process."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from osftx.utils import locks
from osftx.utils.locks import HeldError, immediate_lock, waiting_lock


def test_a_lock_that_is_free_is_taken_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with waiting_lock(tmp_path / "locks" / "one", "waiting"):
            pass
    assert capsys.readouterr().out == ""


def test_the_reason_is_told_once_when_waiting_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "WAIT_TOLD_AFTER_S", 0.05)
    order = []

    def work(name: str, lasts_s: float) -> None:
        with waiting_lock(tmp_path / "lock", "somebody is at work; waiting"):
            order.append(f"{name} begins")
            time.sleep(lasts_s)
            order.append(f"{name} ends")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(work, "first", 0.5)
        while not order:
            time.sleep(0.01)
        pool.submit(work, "second", 0.0).result()
        first.result()
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    assert capsys.readouterr().out == "somebody is at work; waiting\n"


def test_an_immediate_lock_does_not_wait(tmp_path: Path) -> None:
    with immediate_lock(tmp_path / "lock"):
        with pytest.raises(HeldError, match="lock"), immediate_lock(tmp_path / "lock"):
            pytest.fail("two hold it")
        with immediate_lock(tmp_path / "other"):
            pass
    with immediate_lock(tmp_path / "lock"):
        pass


def test_a_lock_ends_with_an_error_of_the_work_and_lets_it_through(tmp_path: Path) -> None:
    for lock in (immediate_lock(tmp_path / "lock"), waiting_lock(tmp_path / "lock", "")):
        with pytest.raises(TimeoutError, match="of the work"), lock:
            raise TimeoutError("of the work")


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), waiting_lock(tmp_path / "file" / "below" / "lock", ""):
        pass
