"""Writes the data of the five-task study: two groups of people and three operations, all unknown to the tiny base.

    python experiments/five_tasks/make_data.py --output FOLDER

The generators are those of `experiments/tiny/make_data.py`. The command always writes the same ten files.
"""

import argparse
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from make_data import (
    NEW_NAMES,
    SKILLS,
    Sample,
    facts,
    held_out_questions,
    letter_questions,
    take_unique,
    trained_questions,
)

SKILL_SAMPLES = 2400
SKILL_QUESTIONS = 200


def build() -> dict[str, list[Sample]]:
    """Returns the samples of the ten files, by name."""
    files = {}
    new = facts()[1]
    half = len(NEW_NAMES) // 2
    for group, names in (("people_a", NEW_NAMES[:half]), ("people_b", NEW_NAMES[half:])):
        entries = [fact for fact in new if fact.subject.split()[0] in names]
        files[f"{group}_train"], files[f"{group}_eval"] = trained_questions(entries), held_out_questions(entries)
    for skill in SKILLS:
        train = letter_questions(skill, random.Random(f"{skill} train"), held_out=False)
        asked = letter_questions(skill, random.Random(f"{skill} eval"), held_out=True)
        files[f"{skill}_train"] = take_unique(train, SKILL_SAMPLES)
        files[f"{skill}_eval"] = take_unique(asked, SKILL_QUESTIONS)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name, samples in build().items():
        lines = (json.dumps({"messages": sample.messages}) + "\n" for sample in samples)
        (args.output / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
