"""The names of the files and folders that a run or a sweep leaves and that more than one module uses.

Such a name is spelled out here alone. A file that one module both writes and reads has its name in that module.

RUN/                          a run folder
  config.yaml plan.json results.json report.html samples.jsonl figures/ data/ .lock
  phases/01_knowledge/        one folder per phase, numbered from 1
    phase.yaml metrics.jsonl result.json logs/
    checkpoint/ best/ bases/ kept_inputs/
    evaluation/ evaluation_before/           evaluations of a reused phase
    answers/ answers_before/                 generated answers of the evaluation sets with a score
    benchmarks/ benchmarks_before/           logs of the lm-evaluation-harness; the scores lie beside them, as .json
SWEEP/                        a sweep folder
  sweep.json sweep.html figures/ multirun.yaml .lock
  0/ 1/ ...                   run folders with a job.json each, and output.log for parallel jobs
STORE/unfinished/FINGERPRINT/ what an interrupted phase needs to continue
  step_00000012/ curve.jsonl bases/ kept_inputs/ ranks.lock
"""

import re
from pathlib import Path

# Files and folders of a run.
CONFIG = "config.yaml"
PLAN = "plan.json"
RESULTS = "results.json"
REPORT = "report.html"
SAMPLES = "samples.jsonl"
"""File with the generated answers of every state of the model, one line per sample."""
FIGURES = "figures"
PHASES = "phases"
RUN_DATA = "data"
LOCK = ".lock"
"""Lock file in a run folder or a sweep folder, held by the process that works there."""

# Files and folders of a phase of a run.
PHASE = "phase.yaml"
PHASE_RESULT = "result.json"
METRICS = "metrics.jsonl"
SPLIT = "split.npz"
"""File with the indices of the samples that a phase trains on and of those that it holds out for validation."""
LOGS = "logs"
CHECKPOINT = "checkpoint"
BEST = "best"
BASES = "bases"
"""Folder of the fp32 bases of the subspaces."""
INPUT_COVARIANCE = "kept_inputs"
"""Folder of the input covariance that later phases must keep. The name is older than the term."""
EVALUATION = "evaluation"
BENCHMARKS = "benchmarks"
ANSWERS = "answers"
ANSWERS_FILE = "answers.json"
"""File in the folder `ANSWERS` that the ranks write."""
BEFORE = "_before"
"""Suffix of the folders with what was measured before the first phase."""

# Files and folders of a phase that is still training.
CURVE = "curve.jsonl"
RANKS_LOCK = "ranks.lock"
SAVE = re.compile(r"step_(\d{8})")

# Files of a sweep.
SWEEP = "sweep.json"
SWEEP_REPORT = "sweep.html"
SWEEP_CONFIG = "multirun.yaml"
"""Configuration of the sweep, which every sweeper of Hydra writes."""
JOB = "job.json"
JOB_OUTPUT = "output.log"


def phase_folder(run: Path, index: int, name: str) -> Path:
    """Returns the folder of a phase in a run folder; `index` counts all phases of the configuration, from 0."""
    return run / PHASES / f"{index + 1:02d}_{name}"


def save_folder(folder: Path, steps: int) -> Path:
    """Returns the folder of the save that was made after `steps` optimizer steps."""
    return folder / f"step_{steps:08d}"


def saved_steps(folder: Path) -> list[int]:
    """Returns the steps after which an unfinished phase was saved, newest first. The saves are not verified."""
    if not folder.is_dir():
        return []
    names = (SAVE.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(name[1]) for name in names if name), reverse=True)
