"""Files of somebody else are plain data: they cost no more than their length, and none is waited for."""

import os
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from osftx.results.plain_files import read_json, read_json_lines, read_yaml


@pytest.mark.parametrize("read", [read_json, read_json_lines, read_yaml])
def test_only_regular_files_are_read(tmp_path: Path, read: object) -> None:
    assert callable(read)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(ValueError, match=f"{name}: is no regular file"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x: " + "1:" * 100_000 + "1", "is no number"),
        ("x: 1:30.5", "is no number"),
        ("x: [" + "1," * 1_000_000 + "1]", "more than 100000 values"),
        ("x: 0x" + "f" * 4_000_000, "is no number"),
        ("x: " + "9" * 4000, "is no number"),
        ("x: .nan", ".nan is no number"),
        ("x: [-.INF]", "-.INF is no number"),
        ("x: 1e999", "1e999 is no number"),
        (".inf: 1", ".inf is no number"),
        ("x: !!float '.nan'", "has a tag"),
        ("x: !!python/object/apply:pathlib.Path [a]", "has a tag"),
        ("x: {a: 1, a: 2}", "a key twice"),
        ("x: [", "is not YAML"),
    ],
    ids=range(13),
)
def test_yaml_that_no_run_writes_is_refused_at_once(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"config\.yaml") as raised:
        read_yaml(tmp_path / "config.yaml")
    assert says in str(raised.value)
    assert time.process_time() - begun < 5


def test_yaml_is_read_as_omegaconf_writes_it(tmp_path: Path) -> None:
    values = [
        1e-5,
        "1e-5",
        "2020-01-01",
        "12:30",
        ".nan",
        None,
        True,
        "no",
        "0x1f",
        1000,
        -3.5e-07,
        1e22,
        ".1e3",
        "1_0",
    ]
    content = {"values": values, "reference": "${values}", "unfinished": "???", "text": "a\nb: #c", "1": {"2": []}}
    OmegaConf.save(OmegaConf.create(content), tmp_path / "config.yaml")
    assert read_yaml(tmp_path / "config.yaml") == content
    (tmp_path / "config.yaml").write_text('x: "${"')
    assert read_yaml(tmp_path / "config.yaml") == {"x": "${"}


def test_what_turns_the_direction_of_text_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["\\u202etxt", "\\u001b[2J"]')
    assert read_json(tmp_path / "a.json") == ["\\u202etxt", "\\x1b[2J"]
