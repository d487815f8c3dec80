"""What the process that measures benchmarks is told, as pure data: `spec.json`; and the scores that it leaves."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from osftx.utils.files import write_json

SPEC_FILE = "spec.json"

Score = dict[str, Any]
"""Of one task: `metric` and `value`, as in the retention table, and `details`, all that the harness gave."""


@dataclass
class BenchmarkSpec:
    model: str
    """Folder of the checkpoint."""
    tasks: list[str]
    include_path: str | None
    built_in: bool
    """Whether the harness's own tasks are needed; it takes many seconds to read their thousands of files."""
    num_fewshot: int | None
    limit: int | None
    batch_size: int
    apply_chat_template: bool
    confirm_run_unsafe_code: bool
    dtype: str
    """Precision of the forward pass; the same for every state of the run."""
    attn_implementation: str | None
    """None: transformers' choice. Its rows are padded, so those that want packed ones do not work here."""
    trust_remote_code: bool
    accelerator: str
    """`cuda`, `cpu`, or `auto`."""
    folder: str
    """Where the process writes."""

    def save(self) -> Path:
        """Write `<folder>/spec.json`, which `python -m osftx.evaluation.lm_eval` runs again on its own."""
        path = Path(self.folder) / SPEC_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
        return path

    @classmethod
    def load(cls, path: Path) -> "BenchmarkSpec":
        return cls(**json.loads(path.read_text()))

    def score_file(self, task: str) -> Path:
        """By its place: a task's name need not be one for a file."""
        return Path(self.folder) / f"score_{self.tasks.index(task):02d}.json"

    def scores(self) -> dict[str, Score]:
        """Of the tasks that are done; each is written when it is, so that a later failure loses none."""
        return {task: json.loads(path.read_text()) for task in self.tasks if (path := self.score_file(task)).is_file()}
