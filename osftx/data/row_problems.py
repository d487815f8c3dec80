"""Collects the rows that cannot be used, and tells many rows with the same reason once."""

import re
from collections.abc import Iterable

from osftx.data.samples import SkippedRow
from osftx.errors import MAX_PROBLEMS_SHOWN

MAX_ROWS = 10_000
"""Number of unusable rows after which reading stops: data of which nothing can be used need not be read to its end."""
EXAMPLES = 3
"""Number of rows that are named where more have the same reason."""
VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
"""Numbers and quoted text, which may differ between reasons that count as the same."""


class RowProblems:
    """Unusable rows by their reasons, in the order in which the reasons came up."""

    def __init__(self) -> None:
        self._by_reason: dict[str, list[SkippedRow]] = {}
        self._counts: dict[str, int] = {}
        self.rows = 0
        """Number of rows so far."""
        self._full = False

    def full_after(self, rows: Iterable[SkippedRow]) -> bool:
        """Adds rows, and returns whether there are enough: no more reasons can be shown, or the rows are too many."""
        for row in rows:
            reason = VARYING.sub("", row.reason)
            self._counts[reason] = self._counts.get(reason, 0) + 1
            if self._counts[reason] <= EXAMPLES:
                self._by_reason.setdefault(reason, []).append(row)
            self.rows += 1
            self._full = self._lines_needed() >= MAX_PROBLEMS_SHOWN or self.rows >= MAX_ROWS
            if self._full:
                break
        return self._full

    def lines(self) -> list[str]:
        """Returns one line for each row, or for each reason that more than `EXAMPLES` rows have."""
        shown = [line for reason in self._by_reason for line in self._lines_of(reason)]
        if self._full:
            shown[-1] += f" (reading stopped here, at row {self.rows} of those that cannot be used)"
        return shown

    def _lines_needed(self) -> int:
        return sum(count if count <= EXAMPLES else 1 for count in self._counts.values())

    def _lines_of(self, reason: str) -> list[str]:
        examples, count = self._by_reason[reason], self._counts[reason]
        if count <= EXAMPLES:
            return [f"{row.place}: {row.reason}" for row in examples]
        others = " and ".join(row.place for row in examples[1:])
        return [
            f"{examples[0].place}: {examples[0].reason} ({count:,} rows have this reason, also {others}; "
            "on_bad_row=skip leaves them out)"
        ]
