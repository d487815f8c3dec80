"""Where the secret of the nodes comes from, and which files are refused."""

import os
import stat
from pathlib import Path

import pytest

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError
from osftx.launch.secret import VARIABLE, shared_secret


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def written(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_the_file_comes_before_the_environment_and_that_before_the_home_folder(home: Path) -> None:
    file = written(home / "mine", "a" * 20 + "\n")
    named = DistributedConfig(secret_file=str(file))
    assert shared_secret(named, {VARIABLE: "b" * 20}) == b"a" * 20
    assert shared_secret(DistributedConfig(), {VARIABLE: "b" * 20}) == b"b" * 20
    assert not (home / ".config").exists()


def test_without_one_it_is_made_once_for_this_user_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = shared_secret(DistributedConfig(), {})
    assert len(made) == 64
    assert shared_secret(DistributedConfig(), {}) == made
    file = home / ".config/osftx/secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret"]
    said = capsys.readouterr().out
    assert said.count("nodes that do not share it need a copy") == 1
    assert made.decode() not in said


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("short", 0o600, "fewer than 16 characters"),
        ("", 0o600, "fewer than 16 characters"),
        ("a" * 20, 0o644, "other users can read or change it; chmod 600"),
        ("a" * 20, 0o620, "other users can read or change it"),
        (None, 0o600, r"cannot be read \(No such file or directory\); give all nodes one secret"),
    ],
)
def test_a_file_that_is_no_secret_is_refused(home: Path, content: str | None, mode: int, says: str) -> None:
    if content is not None:
        written(home / "mine", content, mode)
    with pytest.raises(ConfigurationError, match=says):
        shared_secret(DistributedConfig(secret_file=str(home / "mine")), {})


def test_a_short_variable_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="OSFTX_SECRET: its secret has fewer than 16"):
        shared_secret(DistributedConfig(), {VARIABLE: "short"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_home_folder_that_cannot_be_written_is_told(home: Path) -> None:
    home.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be made"):
        shared_secret(DistributedConfig(), {})
