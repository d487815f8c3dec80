"""Shows all data that a run reads and marks the tokens with loss, for `inspect_data=N`. Nothing is trained."""

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from osftx.data.inspection import Inspection, inspect, passages
from osftx.data.samples import ADJUSTMENTS, Prepared
from osftx.planning.preflight import Checked
from osftx.utils.console import console, printable

BAR = 24
"""Number of columns of the longest bar of the histogram."""
TRAINED = "black on bright_green"
"""Style of text with loss; a background is visible also to colour-blind readers."""
MARKS = ("⟦", "⟧")
"""Brackets around text with loss if there are no colours."""


def show_data(checked: Checked, samples: int) -> None:
    """Shows figures of all data side by side, then the lengths and `samples` samples of each data set, and warnings."""
    assert checked.tokenizer is not None
    screen, data = console(), checked.read
    figures = {name: inspect(prepared) for name, prepared in data.items()}
    screen.print(_table(data, figures))
    for name, prepared in data.items():
        screen.print(f"\n[bold]{escape(name)}[/bold]: {escape(prepared.summary.path)}", highlight=False)
        _show_lengths(screen, figures[name])
        chosen = np.random.default_rng(0).permutation(figures[name].samples)[:samples]
        for place in sorted(chosen.tolist()):
            screen.print(f"\nsample {place + 1:,} of {figures[name].samples:,}", style="dim", highlight=False)
            screen.print(_marked(passages(prepared, place, checked.tokenizer), colours=screen.is_terminal))
    for warning in checked.plan.warnings:
        screen.print(f"\nwarning: {escape(warning)}", style="yellow", highlight=False)


def _table(data: Mapping[str, Prepared], figures: Mapping[str, Inspection]) -> Table:
    shown = Table(title="Data", title_justify="left")
    shown.add_column("")
    for name in data:
        shown.add_column(escape(name), justify="right", overflow="fold")
    rows = {
        "samples": [f"{one.samples:,}" for one in figures.values()],
        "tokens": [f"{one.tokens:,}" for one in figures.values()],
        "trained on": [f"{one.counted:,} ({one.counted / one.tokens:.0%})" for one in figures.values()],
        "duplicates": [f"{one.duplicates:,}" for one in figures.values()],
        "dropped, too long": [f"{prepared.summary.dropped:,}" for prepared in data.values()],
        "skipped, unusable": [f"{prepared.summary.skipped:,}" for prepared in data.values()],
        "messages": [_turns(prepared.summary.turns) for prepared in data.values()],
    }
    for what in ADJUSTMENTS:
        if any(prepared.summary.adjusted.get(what) for prepared in data.values()):
            rows[what] = [f"{prepared.summary.adjusted.get(what, 0):,}" for prepared in data.values()]
    for heading, cells in rows.items():
        shown.add_row(heading, *cells)
    return shown


def _turns(turns: Mapping[str, int]) -> str:
    return "\n".join(f"{role} {count:,}" for role, count in turns.items()) or "-"


def _show_lengths(screen: Console, figures: Inspection) -> None:
    most = max(count for _, _, count in figures.histogram)
    for start, end, count in (line for line in figures.histogram if line[2]):
        bar = "█" * -(-BAR * count // most)
        lengths = f"{start:,}" if start == end else f"{start:,} to {end:,}"
        screen.print(f"{lengths:>17} tokens  {bar:<{BAR}} {count:,}", style="dim", highlight=False)


def _marked(runs: list[tuple[str, bool]], colours: bool) -> Text:
    text = Text()
    for run, counted in ((printable(run), counted) for run, counted in runs):
        if counted and not colours:
            text.append(f"{MARKS[0]}{run}{MARKS[1]}")
        else:
            text.append(run, style=TRAINED if counted else "")
    return text
