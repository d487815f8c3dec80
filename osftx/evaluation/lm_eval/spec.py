"""Input of the process that measures benchmarks, as pure data (`spec.json`), and the scores that it writes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from osftx.utils.files import write_json

SPEC_FILE = "spec.json"

Score = dict[str, Any]
"""Score of one task: `metric` and `value`, as in the retention table, and `details`, the harness's whole output."""


@dataclass
class BenchmarkSpec:
    model: str
    """Folder of the checkpoint."""
    tasks: list[str]
    include_path: str | None
    built_in: bool
    """Whether the harness's own tasks are needed; reading their thousands of files takes many seconds."""
    num_fewshot: int | None
    limit: int | None
    batch_size: int
    apply_chat_template: bool
    confirm_run_unsafe_code: bool
    dtype: str
    """Precision of the forward pass; the same for every state of the run."""
    attn_implementation: str | None
    """Implementation of attention; None leaves the choice to transformers. The harness pads its rows, so
    implementations that require packed rows do not work."""
    trust_remote_code: bool
    accelerator: str
    """Kind of device: `cuda`, `cpu` or `auto`."""
    folder: str
    """Folder to which the process writes."""

    def save(self) -> Path:
        """Writes `<folder>/spec.json` and returns its path.

        `python -m osftx.evaluation.lm_eval` can run the file again by itself.
        """
        path = Path(self.folder) / SPEC_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
        return path

    @classmethod
    def load(cls, path: Path) -> "BenchmarkSpec":
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def score_file(self, task: str) -> Path:
        """Returns the file of a task's score, named by the task's place: its name need not be a valid file name."""
        return Path(self.folder) / f"score_{self.tasks.index(task):02d}.json"

    def scores(self) -> dict[str, Score]:
        """Returns the scores of the tasks that are done.

        Each score is written as soon as it is measured, so that a later failure loses none.
        """
        return {
            task: json.loads(path.read_text(encoding="utf-8"))
            for task in self.tasks
            if (path := self.score_file(task)).is_file()
        }
