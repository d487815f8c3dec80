"""The tables of a comparison as rows of text, for the screen and for Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass

from osftx.compare.comparison import ComparedGroup, Comparison
from osftx.compare.curves import ALL, BASE, EARLIER
from osftx.compare.sentences import interval, value
from osftx.compare.statistics import Estimate

NONE = "-"
"""Text that is shown where there is no value."""

HEADINGS = {
    "average_accuracy": ("average accuracy", ".3f"),
    "learning_accuracy": ("learning accuracy", ".3f"),
    "forgetting": ("forgetting", ".3f"),
    "backward_transfer": ("backward transfer", ".3f"),
    "tokens": ("tokens trained", ",.0f"),
    "training_s": ("steps, s", ",.0f"),
    "peak_memory_gb": ("peak memory, GB", ".2f"),
}
"""Heading and number format of each measure in `comparison.MEASURES`."""


@dataclass
class TextTable:
    title: str
    headings: list[str]
    rows: list[list[str]]
    texts: int = 1
    """Number of leading columns that hold text; the others hold numbers."""

    @property
    def width(self) -> int:
        """Number of characters of a line on the screen, including borders."""
        columns = zip(self.headings, *self.rows, strict=True)
        return 1 + sum(3 + max(map(len, column)) for column in columns)

    def turned(self) -> "TextTable":
        """Returns the table with rows and columns exchanged."""
        first, *others = zip(self.headings, *self.rows, strict=True)
        return TextTable(self.title, list(first), [list(row) for row in others])


def tables(comparison: Comparison) -> Iterator[TextTable]:
    yield _runs(comparison)
    yield _kept(comparison)
    if len(comparison.groups) > 1:
        yield _settings(comparison)


def _runs(comparison: Comparison) -> TextTable:
    rows = []
    for group in comparison.groups:
        cells = {name: _value(group.measures[name], form) for name, (_, form) in HEADINGS.items()}
        if any(run.reused for run in group.runs):
            cells["training_s"] += " *"
        rows.append([group.label, *cells.values(), str(group.seeds)])
    headings = ["group", *(heading for heading, _ in HEADINGS.values()), "seeds"]
    return TextTable("Whole runs, mean ± half of the 95% interval", headings, rows)


def _kept(comparison: Comparison) -> TextTable:
    """Returns the table of what is kept, with one row per group and part.

    The parts are everything taught before and, if there are sets of both, the base model and the earlier phases.
    """
    sets = comparison.sets
    names = {ALL: "all", BASE: "base", EARLIER: "earlier phases"}
    rows = []
    for group in comparison.groups:
        for part in sets.parts:
            first = part == sets.parts[0]
            beside = _reached(comparison, group)
            rows.append(
                [
                    group.label if first else "",
                    names[part],
                    _value(group.kept[part], ".3f"),
                    *_against(group, part),
                    *(beside if first else [""] * len(beside)),
                ]
            )
    if comparison.level is None:
        where, learned = f"after {comparison.phase}, learning not matched", ["learning"]
    else:
        where, learned = f"at {comparison.phase} accuracy {comparison.level:.3f}", []
    of = "; ".join(f"{names[part]}: {', '.join(sets.of(part))}" for part in (BASE, EARLIER) if sets.of(part))
    headings = ["group", "taught before", "kept", "against the first", "95% interval", "excludes 0", "pairs"]
    return TextTable(f"Kept {where} ({of})", [*headings, *learned, "steps", "seeds"], rows, texts=2)


def _against(group: ComparedGroup, part: str) -> list[str]:
    difference = group.difference.get(part)
    if difference is None:
        return [NONE] * 4
    pairs = str(difference.count)
    if difference.half_width is None:
        return [f"{difference.mean:+.3f}", "none", NONE, pairs]
    excludes_zero = "yes" if difference.excludes_zero else "no"
    return [f"{difference.mean:+.3f}", interval(difference, form="+.3f"), excludes_zero, pairs]


def _reached(comparison: Comparison, group: ComparedGroup) -> list[str]:
    """Returns steps and seeds of the compared states, after the learning if it is not the same for all groups."""
    learning = [_value(group.learning, ".3f")] if comparison.level is None else []
    return [*learning, _value(group.steps, ".1f"), str(group.learning.count if group.learning is not None else 0)]


def _settings(comparison: Comparison) -> TextTable:
    groups = comparison.groups
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    rows = [[key, *(group.settings.get(key, NONE) for group in groups)] for key in keys]
    return TextTable(
        "Settings that differ", ["setting", *(group.label for group in groups)], rows, texts=len(groups) + 1
    )


def _value(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return NONE
    return value(estimate, form)
