"""Writes preserve sets of other kinds and a skill of known words, with the generators of `experiments/tiny`.

    python experiments/subspace_by_activations/make_data.py --output FOLDER

keep_reverse     One of the base's six kinds of questions alone.
keep_facts       Another one of the six alone: its directory of people.
keep_letters     Random letters as question and as answer, in the base's chat template.
known_train/eval A skill whose words the base knows: `next reverse abc` is both operations, one after the other.

The command always writes the same files.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from make_data import (
    KEEP_SAMPLES,
    LETTERS,
    Sample,
    chat,
    facts,
    letter_questions,
    next_letter,
    take_unique,
    trained_questions,
)

KNOWN_SAMPLES = 2400
KNOWN_QUESTIONS = 200


def random_letters(rng: random.Random) -> Sample:
    """Returns a chat with random letters as question and as answer."""
    return chat("letters", *("".join(rng.choices(LETTERS, k=rng.randint(3, 5))) for _ in range(2)))


def known_questions(rng: random.Random, *, held_out: bool) -> Iterator[Sample]:
    """Yields `next reverse` questions whose inputs are on one side of the split of `reverse`."""
    for sample in letter_questions("reverse", rng, held_out=held_out):
        question, answer = (message["content"] for message in sample.messages)
        yield chat("next reverse", f"next {question}", "".join(map(next_letter, answer)))


def build() -> dict[str, list[Sample]]:
    """Returns the samples of the files, by name."""
    rng = random.Random("keep")
    reverse = letter_questions("reverse", rng, held_out=False)
    return {
        "keep_reverse": [next(reverse) for _ in range(KEEP_SAMPLES)],
        "keep_facts": rng.choices(trained_questions(facts()[0]), k=KEEP_SAMPLES),
        "keep_letters": [random_letters(rng) for _ in range(KEEP_SAMPLES)],
        "known_train": take_unique(known_questions(random.Random("known train"), held_out=False), KNOWN_SAMPLES),
        "known_eval": take_unique(known_questions(random.Random("known eval"), held_out=True), KNOWN_QUESTIONS),
    }


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
