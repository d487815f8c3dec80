"""Compares runs at the same learning: what does each keep? `python -m osftx.compare RUN RUN ... [--output FOLDER]`

Runs that differ only in the seed form one group; the other groups are compared with the first one.
"""

import argparse
import glob
import sys
from collections.abc import Sequence
from pathlib import Path

from osftx.compare.comparison import Comparison, compare
from osftx.compare.runs import LabelledRun, read_runs
from osftx.compare.show import show
from osftx.errors import ConfigurationError
from osftx.utils.console import printable, replace_what_cannot_be_shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0 for success, 2 if the runs or the options are wrong."""
    replace_what_cannot_be_shown()
    chosen = _parser().parse_args(arguments)
    try:
        labelled, problems = _labelled(chosen.label)
        if chosen.at is not None and not 0 < chosen.at <= 1:
            problems.append(f"--at {chosen.at:g}: exact match is above 0 and at most 1; give such a level")
        if not chosen.runs and not chosen.label:
            problems.append("RUN: no run is named; give folders of runs or of sweeps")
        runs, left_out = read_runs(chosen.runs, labelled, problems)
        comparison = _compared(runs, left_out, chosen.phase, chosen.at)
        show(comparison)
        if chosen.output is not None:
            from osftx.compare.write import write  # imports matplotlib

            write(comparison, chosen.output)
            print(f"\nComparison: {chosen.output}")
    except ConfigurationError as error:
        print(printable(f"osftx.compare: {error}"), file=sys.stderr)
        return 2
    return 0


def _compared(runs: list[LabelledRun], left_out: list[str], phase: str | None, level: float | None) -> Comparison:
    """Returns the comparison. Raises ConfigurationError for runs with values that no run writes."""
    try:
        return compare(runs, left_out, phase, level)
    except ConfigurationError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        folders = ", ".join(str(one.run.folder) for one in runs)
        raise ConfigurationError([f"{folders}: hold values that no run of osftx writes ({reason})"]) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m osftx.compare", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run, or of a sweep")
    label = "call these runs NAME; a pattern is quoted; may be given several times"
    parser.add_argument("--label", action="append", default=[], metavar="NAME=RUN", help=label)
    phase = "compare what is kept while this phase is learned (default: the last one)"
    parser.add_argument("--phase", metavar="NAME", help=phase)
    level = "compare at this exact match on what the phase teaches (default: the highest that every run reaches)"
    parser.add_argument("--at", type=float, metavar="LEVEL", help=level)
    output = "write comparison.json, comparison.md and comparison.png there"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=output)
    return parser


def _labelled(given: list[str]) -> tuple[list[tuple[str, Path]], list[str]]:
    """Returns (label, folder) for each folder that a `--label` names, and the problems found."""
    problems: list[str] = []
    found: list[tuple[str, Path]] = []
    for word in given:
        label, _, pattern = word.partition("=")
        if not label or not pattern:
            problems.append(f"--label {word}: must be NAME=FOLDER or NAME=PATTERN")
            continue
        folders = sorted(path for path in glob.glob(pattern) if Path(path).is_dir())
        if not folders:
            problems.append(f"--label {word}: no folder is called so")
        found += [(label, Path(folder)) for folder in folders]
    return found, problems


if __name__ == "__main__":
    sys.exit(main())
