"""Shows the comparison on the screen and writes it as Markdown for a page."""

from rich.markup import escape
from rich.table import Table

from osftx.compare.comparison import Comparison
from osftx.compare.sentences import answer, notes
from osftx.compare.tables import TextTable, tables
from osftx.utils.console import console

FIGURE_FILE = "comparison.png"


def show(comparison: Comparison) -> None:
    screen = console()
    for text in tables(comparison):
        if text.rows:
            # A few groups in a narrow terminal are shown side by side, as in the plan.
            turned = text.texts == 1 and text.turned().width <= screen.width < text.width
            screen.print(_rich(text.turned() if turned else text))
    for group in comparison.groups:
        screen.print(escape(answer(comparison, group)), highlight=False)
    for note in notes(comparison):
        screen.print(escape(note), style="yellow", highlight=False)


def markdown(comparison: Comparison) -> str:
    """Returns tables, answers, notes and a link to the figure, which must lie beside the page, as Markdown."""
    parts = ["\n".join(["## Comparison", "", *(f"- {answer(comparison, group)}" for group in comparison.groups)])]
    parts += [_markdown(text) for text in tables(comparison) if text.rows]
    if limits := list(notes(comparison)):
        parts.append("\n".join(f"- {note}" for note in limits))
    parts.append(f"![Kept against learned in {comparison.phase}]({FIGURE_FILE})")
    return "\n\n".join(parts) + "\n"


def _rich(text: TextTable) -> Table:
    shown = Table(title=escape(text.title), title_justify="left")
    for place, heading in enumerate(text.headings):
        shown.add_column(escape(heading), justify="left" if place < text.texts else "right", overflow="fold")
    for row in text.rows:
        shown.add_row(*map(escape, row))
    return shown


def _markdown(text: TextTable) -> str:
    marks = ["---" if place < text.texts else "---:" for place in range(len(text.headings))]
    rows = [text.headings, *text.rows]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([f"### {text.title}", "", lines[0], f"| {' | '.join(marks)} |", *lines[1:]])
