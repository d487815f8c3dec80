"""Exit codes of the program, and the errors that are not bugs in osftx but something that a user can correct."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

MAX_PROBLEMS_SHOWN = 20


class ExitCode(IntEnum):
    """Exit codes of the program. A sweep with failed jobs ends with the lowest of their codes."""

    done = 0
    training_failed = 1
    """A phase failed, or a signal ended the program."""
    wrong_configuration = 2
    """The configuration or the data is wrong; nothing was started."""
    interrupted = 130
    """Ctrl-C ended the program; the code is the one that shells use."""


class Exit(SystemExit):
    """Ends the program with an exit code after the reason was printed (`utils.console.leave`)."""

    def __init__(self, code: int, message: str = ""):
        self.message = message
        super().__init__(code)


class ConfigurationError(ValueError):
    """The configuration or the data is wrong; nothing was started.

    Carries every problem that was found, so that one run shows all of them. Each problem is one line that names
    the place (configuration path, or file and line), the value, what is allowed and the remedy.
    """

    exit_code = ExitCode.wrong_configuration

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        shown = [f"  - {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            shown.append(f"  - ... and {len(self.problems) - MAX_PROBLEMS_SHOWN} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in the configuration or the data:", *shown]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error come whole from another process: by default only its text would come."""
        return type(self), (self.problems,)


class TrainingError(RuntimeError):
    """A phase failed after it was started. The message names the phase, the rank, the cause, and how to continue."""

    exit_code = ExitCode.training_failed


class PrunedError(RuntimeError):
    """A search ends a run between two phases because earlier runs did better. Nothing is wrong with the run.

    Carries the results so far, as in results.json.
    """

    def __init__(self, reason: str, results: dict[str, Any]):
        self.results = results
        super().__init__(reason)


class StopSignal(BaseException):
    """A signal ends the program while no ranks are running.

    It is not an Exception, so that no handler on the way mistakes it for a failure of a job or a file.
    """


class StoppedError(TrainingError):
    """A signal ended the phase. The signal is meant to end a whole sweep, not just one job."""
