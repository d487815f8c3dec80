"""Which errors are refusals of a disk, whatever library has wrapped them."""

import errno
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from osftx.utils.disk import refusal
from osftx.utils.files import write_text


class CheckpointError(Exception):
    """As torch.distributed.checkpoint raises it: with the error of each rank."""

    def __init__(self, error: Exception):
        self.failures = {0: (error, [])}


def wrapped(error: Exception) -> Exception:
    outer = ValueError("could not write")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "", "/a/b"), "/a/b: No space left on device; make room there"),
        (OSError(errno.ENOSPC, ""), "/run: No space left on device; make room there"),
        (OSError(errno.EDQUOT, ""), "/run: Disk quota exceeded; make room there"),
        (OSError(errno.EFBIG, ""), "/run: File too large; make room there"),
        (PermissionError(errno.EACCES, "", "/a"), "/a: Permission denied; make it writable for you"),
        (OSError(errno.EROFS, "", "/a"), "/a: Read-only file system; make it writable for you"),
        (RuntimeError("Error while serializing: I/O error: No space (os error 28)"), "/run: No space left on device"),
        (RuntimeError("Error writing bytes to file. Detail: [errno 28] No space"), "/run: No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:676] . unexpected pos 64 vs 0"), "/run: No space left"),
        (wrapped(OSError(errno.ENOSPC, "", "/a/b")), "/a/b: No space left on device"),
        (CheckpointError(OSError(errno.ENOSPC, "", "/a/b")), "/a/b: No space left on device"),
    ],
)
def test_a_refusal_names_the_place_the_reason_and_the_remedy(error: Exception, says: str) -> None:
    assert says in str(refusal(error, "/run"))


@pytest.mark.parametrize(
    "error", [ValueError("loss is nan"), FileNotFoundError(errno.ENOENT, "", "/a"), OSError("odd")]
)
def test_other_errors_are_none(error: Exception) -> None:
    assert refusal(error, "/run") is None


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than a kilobyte."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_file_that_cannot_be_written_whole_leaves_the_earlier_one_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "before")
    with pytest.raises(OSError, match="File too large") as raised:
        write_text(path, "x" * 4096)
    assert raised.value.filename == str(path)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("results.json", "before")]
