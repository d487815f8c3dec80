"""Output in an encoding that does not have every character: each program prints on, with a mark instead."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from osftx.utils.console import complain, replace_what_cannot_be_shown
from osftx.utils.files import write_json, write_text

ENCODINGS = ({"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"})


def test_what_the_encoding_does_not_have_becomes_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii"))
    replace_what_cannot_be_shown()
    complain("path/\N{LATIN SMALL LETTER U WITH DIAERESIS}\udcff: ┃")
    assert written.getvalue() == b"osftx: path/??: ?\n"


def test_half_characters_are_written_as_escapes(tmp_path: Path) -> None:
    """A name that is not UTF-8, as Python reads it from the command line."""
    write_text(tmp_path / "text", "name: \udcff ü")
    assert (tmp_path / "text").read_text(encoding="utf-8") == "name: \\udcff ü"
    write_json(tmp_path / "json", {"name": "\udcff"})
    assert (tmp_path / "json").read_text(encoding="utf-8") == '{\n  "name": "\\udcff"\n}\n'


@pytest.mark.parametrize("environment", ENCODINGS, ids=lambda given: "-".join(given.values()))
@pytest.mark.process
def test_a_program_shows_data_and_refusals_whatever_the_encoding(tmp_path: Path, environment: dict[str, str]) -> None:
    data = tmp_path / "dätä.jsonl"
    turns = '[{"role": "user", "content": "日本 ü"}, {"role": "assistant", "content": "┃ déjà"}]'
    data.write_text('{"messages": ' + turns + "}\n", encoding="utf-8")
    shown = osftx(environment, f"phases.knowledge.data.path='{data}'", "inspect_data=1")
    assert shown.returncode == 0, shown.stderr
    assert b"trained on" in shown.stdout
    refused = osftx(environment, f"phases.knowledge.data.path='{data}x'", "dry_run=true")
    assert refused.returncode == 2
    assert b"cannot be read" in refused.stderr
    assert b"Traceback" not in refused.stderr + shown.stderr


def osftx(environment: dict[str, str], *overrides: str) -> subprocess.CompletedProcess[bytes]:
    words = ("+experiment=tiny_two_phase", "~evaluation", "~phases.skills", "training.use_liger=false", *overrides)
    return subprocess.run(
        [sys.executable, "-m", "osftx", *words],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in ("LANG", "LC_ALL")} | environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
