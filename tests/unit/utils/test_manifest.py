"""Sealed folders: what was changed since is found."""

from pathlib import Path

import pytest

from osftx.utils.manifest import MANIFEST, begin, differences, is_whole, partial_of, seal, seal_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sealed"
    partial = begin(folder)
    assert partial == partial_of(folder)
    (partial / "inner").mkdir()
    (partial / "a.bin").write_bytes(b"0123456789")
    (partial / "inner" / "b.bin").write_bytes(b"x" * 100)
    seal(folder)
    return folder


def problems(folder: Path) -> list[str]:
    expected = seal_of(folder)
    assert expected is not None
    return list(differences(folder, expected, MANIFEST))


def test_what_was_sealed_is_whole(folder: Path) -> None:
    assert is_whole(folder)
    assert not partial_of(folder).exists()
    assert set(seal_of(folder) or {}) == {"a.bin", "inner/b.bin"}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.bin", b"0123456788", "a.bin has another content"),
        ("a.bin", b"01234", "a.bin has 5 bytes instead of 10"),
        ("inner/b.bin", None, "inner/b.bin is missing"),
        ("c.bin", b"", "c.bin is not in the manifest"),
    ],
)
def test_what_was_changed_is_found(folder: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert problems(folder) == [problem]
    assert not is_whole(folder)


def test_what_has_no_manifest_is_not_whole(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).write_text("{")
    assert not is_whole(folder)
    assert not is_whole(tmp_path / "nowhere")


def test_beginning_again_starts_empty_and_sealing_replaces(folder: Path) -> None:
    (begin(folder) / "left").write_text("of a crash")
    (begin(folder) / "new").write_text("content")
    seal(folder)
    assert set(seal_of(folder) or {}) == {"new"}
    assert is_whole(folder)
