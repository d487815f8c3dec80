"""Nothing that is printed can command the terminal, wherever it comes from."""

import io

import pytest
from rich.markup import escape
from rich.table import Table

from osftx.utils.console import SafeConsole, complain, printable, tell

HOSTILE = "a\x1b]0;title\x07b\x9b31mc\x00\u202ed\re"
SHOWN = r"a\x1b]0;title\x07b\x9b31mc\x00\u202ed\re"


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
