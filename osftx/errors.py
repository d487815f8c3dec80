"""The errors that a user can mend, as opposed to bugs in osftx."""

from collections.abc import Sequence
from typing import Any

MAX_PROBLEMS_SHOWN = 20


class ConfigurationError(ValueError):
    """The configuration or the data is wrong; nothing was started (exit code 2).

    Carries every problem that was found, so that one run shows all of them. Each problem is one line that names
    the place (configuration path, or file and line), the value, what is allowed and the remedy.
    """

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        shown = [f"  - {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            shown.append(f"  - ... and {len(self.problems) - MAX_PROBLEMS_SHOWN} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in the configuration or the data:", *shown]))


class TrainingError(RuntimeError):
    """A phase failed after it was started (exit code 1): which phase, which rank, why, and how to go on."""


class PrunedError(RuntimeError):
    """A search ends a run between two phases, because it does worse than others did. Nothing is wrong with it.

    Carries the results so far, as in results.json.
    """

    def __init__(self, reason: str, results: dict[str, Any]):
        self.results = results
        super().__init__(reason)


class StopSignal(BaseException):
    """A signal ends the program while no ranks are running. Not an Exception: nobody on the way shall take it for one
    of the things that may go wrong."""


class StoppedError(TrainingError):
    """A signal ended the phase: whoever sent it wants the whole sweep to end, not one job."""
