"""Output in an encoding that does not have every character, and text that would command the terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from rich.markup import escape
from rich.table import Table

from osftx.utils.console import SafeConsole, complain, printable, replace_what_cannot_be_shown, tell
from osftx.utils.files import write_json, write_text

HOSTILE = "a\x1b]0;title\x07b\x9b31mc\x00\u202ed\re"
SHOWN = r"a\x1b]0;title\x07b\x9b31mc\x00\u202ed\re"
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


def test_control_characters_are_shown_as_escapes() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("é\t東\n😀") == "é\t東\n😀"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_console_shows_them_in_lines_and_tables(is_terminal: bool) -> None:
    file = io.StringIO()
    screen = SafeConsole(
        file=file, force_terminal=is_terminal, width=160, color_system="truecolor" if is_terminal else None
    )
    table = Table()
    table.add_column(escape(HOSTILE))
    table.add_row(escape(HOSTILE))
    screen.print(table)
    screen.print(escape(HOSTILE), style="yellow", highlight=False)
    printed = file.getvalue()
    assert r"\x1b]0;title" in printed
    for character in "\x9b\x00\u202e\x07\r":
        assert character not in printed
    assert "\x1b]" not in printed
    assert ("\x1b[33m" in printed) == is_terminal, "the console's own colours stay"


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    complain(f"{HOSTILE}\nsecond line")
    tell(HOSTILE)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"osftx: {SHOWN}\nsecond line\n")
