"""What one job of a sweep came to: the record `job.json`, all that the end of the sweep knows of the job.

Jobs may run in other processes or on other machines, so nothing else is handed on.
"""

from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from osftx.config.objective import as_list
from osftx.config.run_layout import JOB
from osftx.errors import ExitCode
from osftx.utils.files import write_json

Objective = float | list[float | None] | None
"""The value of one objective, or a list of values where the configuration names several; None where there is none."""


class State(str, Enum):
    done = "done"
    pruned = "pruned"
    """Ended between two phases by the search."""
    failed = "failed"


@dataclass
class Job:
    """What one job of a sweep came to."""

    number: int
    overrides: list[str]
    """Of the command line, this job's values put in."""
    state: State = State.done
    failure: str | None = None
    """Why it failed; null if it did not."""
    exit_code: int = ExitCode.done
    """The `ExitCode` that the job would have ended with on its own; 0 if it was pruned."""
    objective: Objective = None
    """A list where the configuration names several."""
    summary: dict[str, float | None] = field(default_factory=dict)
    """The figures of `results.json` by name."""
    trained: int = 0
    """Phases that this job trained."""
    reused: int = 0
    """Phases that were in the store."""
    training_s: float = 0.0
    """Seconds of the phases that this job trained."""
    duration_s: float = 0.0
    """Seconds from the job's beginning to its end."""

    def save(self, folder: Path) -> None:
        """Writes the record into the run folder of the job, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, asdict(self))

    def take(self, results: dict[str, Any]) -> None:
        """Fills in what `results.json` holds."""
        self.objective, self.summary = results["objective"], results["summary"]
        own = [phase for phase in results["phases"] if not phase["reused"]]
        self.trained, self.reused = len(own), len(results["phases"]) - len(own)
        self.training_s = round(sum(phase["duration_s"] for phase in own), 3)

    def fail(self, cause: str, exit_code: int) -> None:
        """Marks the job as failed."""
        self.state, self.failure, self.exit_code = State.failed, cause, exit_code

    def objective_values(self, count: int) -> list[float | None]:
        """Returns the value of each of the `count` objectives of the sweep; None where the job has none."""
        return [*as_list(self.objective), *[None] * count][:count]
