"""Progress with an ETA: tqdm's bar in a terminal, a plain line every few seconds in a log. Only rank 0 shows it."""

import os
import sys

from tqdm import tqdm

LOG_INTERVAL_S = 5.0
LOG_LINE = "{desc}: {n_fmt}/{total_fmt}{unit}, {elapsed} gone, {remaining} left{postfix}\n"


def progress(title: str, total: int, unit: str, done: int = 0) -> tqdm:
    """Returns a progress bar for `total` turns, `done` of which are already done. Use it as a context manager.

    Call `update()` after each turn, and `set_postfix(...)` to show figures.
    """
    terminal = sys.stdout.isatty()
    return tqdm(
        desc=title,
        file=sys.stdout,  # the ranks' stderr goes to the phase's logs
        total=total,
        initial=done,
        unit=f" {unit}",
        disable=os.environ.get("RANK", "0") != "0",  # the launcher sets RANK on every rank
        mininterval=0.1 if terminal else LOG_INTERVAL_S,
        bar_format=None if terminal else LOG_LINE,
        dynamic_ncols=terminal,
    )
