"""Digests that are known: only of files that cannot have been touched since."""

import os
from pathlib import Path

import pytest

from osftx.utils import known_digests
from osftx.utils.known_digests import KnownDigests, read_file, unchanged


def test_what_was_written_a_moment_ago_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    assert read_file(file).state is None  # a second change within the same tick would not show
    monkeypatch.setattr(known_digests, "SETTLED_S", -1.0)
    found = read_file(file)
    assert found.state is not None
    assert unchanged(file, found)


def test_another_file_in_its_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_digests, "SETTLED_S", -1.0)
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("a")
    digests = KnownDigests(tmp_path / "known.json")
    found = digests.of(file)
    digests.keep()
    other.write_text("b")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert not unchanged(file, found)
    assert KnownDigests(tmp_path / "known.json").of(file).sha256 != found.sha256


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"a 1 2": "sha"}', '{"a": ["sha", [1]]}', '{"a": null}', "[" * 100_000]
)
def test_a_damaged_or_older_list_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "known.json").write_text(content)
    assert KnownDigests(tmp_path / "known.json").entries() == {}
