"""Writes what each preserve set kept of each of the base's six kinds of questions.

    python experiments/subspace_by_activations/by_task.py RUNS --output FOLDER

RUNS is the folder in which `run.sh` trained. For each preserve set the run of the first seed is evaluated again. FOLDER
receives `by_task.md`.
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from make_data import BASE_LETTER_TASKS, base_eval
from tables import by_preserve_set
from train_base import exact_match

TASKS = ("facts", *BASE_LETTER_TASKS)


def kept(checkpoint: Path) -> dict[str, float]:
    """Returns the exact match on the evaluation of the base, by kind of question."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    return exact_match(model, AutoTokenizer.from_pretrained(checkpoint), base_eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="what run.sh trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()

    lines = [f"| preserve set | {' | '.join(TASKS)} | seed |", "|---" * (len(TASKS) + 2) + "|"]
    for label, runs in by_preserve_set(args.runs).items():
        scores = kept(runs[0].folder / runs[0].phases[-1].result["checkpoint"])
        cells = [f"{scores[task]:.3f}" for task in TASKS]
        lines.append(f"| {label} | {' | '.join(cells)} | {runs[0].seeds[0]} |")
    title = "Exact match on each kind of question of the base, after both phases:"
    (args.output / "by_task.md").write_text(f"{title}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
