"""The record `job.json` of one job of a sweep, which holds all that the end of the sweep needs to know about the job.

Jobs may run in other processes or on other machines, so the record is the only way to pass this on.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from osftx.config.objective import as_list
from osftx.config.run_layout import JOB
from osftx.errors import ExitCode
from osftx.utils.files import write_json
from osftx.utils.masking import masked

Objective = float | list[float | None] | None
"""Value of the single objective, or a list of values if the configuration names several; None if there is no value."""


class State(StrEnum):
    done = "done"
    pruned = "pruned"
    """The search ended the job between two phases."""
    failed = "failed"


@dataclass
class Job:
    """The outcome of one job of a sweep."""

    number: int
    overrides: list[str]
    """Overrides of the command line, with the values of this job."""
    state: State = State.done
    failure: str | None = None
    """Reason of the failure; null if the job did not fail."""
    exit_code: int = ExitCode.done
    """`ExitCode` with which the job would have ended as a run of its own; 0 if it was pruned."""
    objective: Objective = None
    """Value of the objective; a list if the configuration names several."""
    summary: dict[str, float | None] = field(default_factory=dict)
    """Figures of `results.json`, by name."""
    trained: int = 0
    """Number of phases that this job trained."""
    reused: int = 0
    """Number of phases that were taken from the store."""
    training_s: float = 0.0
    """Duration in seconds of the phases that this job trained."""
    duration_s: float = 0.0
    """Seconds from the start of the job to its end."""

    def save(self, folder: Path) -> None:
        """Writes the record, without secrets, into the run folder of the job; creates the folder if necessary."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, masked(asdict(self)))

    def take(self, results: dict[str, Any]) -> None:
        """Copies the job's outcome from the content of `results.json`."""
        self.objective, self.summary = results["objective"], results["summary"]
        own = [phase for phase in results["phases"] if not phase["reused"]]
        self.trained, self.reused = len(own), len(results["phases"]) - len(own)
        self.training_s = round(sum(phase["duration_s"] for phase in own), 3)

    def fail(self, cause: str, exit_code: int) -> None:
        """Marks the job as failed."""
        self.state, self.failure, self.exit_code = State.failed, cause, exit_code

    def objective_values(self, count: int) -> list[float | None]:
        """Returns the values of the `count` objectives of the sweep, with None for each that the job lacks."""
        return [*as_list(self.objective), *[None] * count][:count]
