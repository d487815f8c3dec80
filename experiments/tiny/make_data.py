"""Writes the evaluation and fine-tuning data of the tiny two-phase experiment.

    python experiments/tiny/make_data.py

Everything is drawn from fixed seeds: the command always writes the same six files under `data/`, with one chat per
line, as `{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}`.

base       The data on which the shipped base model was trained: operations on short words of random letters, and a
           directory of people. The training mix is endless (`train_base.py` draws from it). The files hold its
           evaluation and a sample of it (`base_keep`), the preserve set for activation-based subspaces.
knowledge  Phase 1: the directory entries of people whom the base never met.
skills     Phase 2: an operation that the base never saw, named by a word that it never saw.

No evaluation question is ever trained on. Questions about letters are split by a hash of the question. An entry is
trained in three of its four phrasings and asked in the fourth, in which other entries were trained.

Everything new comes with its own word (a name, the word of the skill), as entities and task tokens do in practice. This
also makes OSFT's work easier, because the embedding of such a word points in directions that the base does not use.
"""

import argparse
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LETTERS = "abcdefghijklmnop"
BASE_LETTER_TASKS = ("copy", "reverse", "next", "first", "last")
SKILLS = ("swap", "rotate", "ends")

KNOWN_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Hana", "Ivan", "Kim", "Leo")
NEW_NAMES = ("Mia", "Nora", "Omar", "Pia", "Ravi", "Sam", "Tara", "Uma", "Will", "Zoe")
RELATIONS = ("room", "desk", "street", "site")
PHRASINGS = ("tell {}", "give {}", "show {}", "write {}")
CODE_LETTERS = 3
FACT_SHARE = 0.3
KEEP_SAMPLES = 500

WORDS = (
    *BASE_LETTER_TASKS, *RELATIONS, *(phrasing.split()[0] for phrasing in PHRASINGS), *KNOWN_NAMES, *NEW_NAMES, *SKILLS,
)  # fmt: skip
"""Words with a token of their own; each has a letter that LETTERS lacks, so none can be found in random letters."""


class Sample(NamedTuple):
    """A chat and the task to which it belongs. `train_base.py` reports by task; the files do not contain it."""

    task: str
    messages: list[dict[str, str]]


class Fact(NamedTuple):
    """A directory entry: `code` for `subject`, and `held_out`, the index of the phrasing kept for evaluation."""

    subject: str
    code: str
    held_out: int


def chat(task: str, question: str, answer: str) -> Sample:
    """Returns a chat of one turn."""
    return Sample(task, [{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


def next_letter(letter: str) -> str:
    """Returns the letter after `letter`; the first letter follows the last one."""
    return LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)]


def letter_question(task: str, rng: random.Random) -> Sample:
    """Returns one operation on 3 to 5 different random letters."""
    text = "".join(rng.sample(LETTERS, 4 if task == "swap" else rng.randint(3, 5)))
    match task:
        case "copy":
            answer = text
        case "reverse":
            answer = text[::-1]
        case "next":
            answer = "".join(map(next_letter, text))
        case "first":
            answer = text[0]
        case "last":
            answer = text[-1]
        case "swap":  # swaps the letters of each pair
            answer = text[1] + text[0] + text[3] + text[2]
        case "rotate":
            answer = text[1:] + text[0]
        case "ends":  # swaps the first and the last letter
            answer = text[-1] + text[1:-1] + text[0]
        case _:
            raise ValueError(f"unknown task {task!r}")
    return chat(task, f"{task} {text}", answer)


def letter_questions(task: str, rng: random.Random, *, held_out: bool) -> Iterator[Sample]:
    """Yields endless questions from one side of the split: an eighth of all questions is held out for evaluation."""
    while True:
        sample = letter_question(task, rng)
        if (zlib.crc32(sample.messages[0]["content"].encode()) % 8 == 0) == held_out:
            yield sample


def facts() -> tuple[list[Fact], list[Fact]]:
    """Returns `(known, new)`: the entries of the base mix, and those of phase 1, which are about other people."""
    rng = random.Random("facts")
    known, new = [], []
    for names, entries in ((KNOWN_NAMES, known), (NEW_NAMES, new)):
        for name_index, name in enumerate(names):
            for relation_index, relation in enumerate(RELATIONS):
                code = "".join(rng.choices(LETTERS, k=CODE_LETTERS))
                entries.append(Fact(f"{name} {relation}", code, held_out=(name_index + relation_index) % 4))
    return known, new


def ask(fact: Fact, phrasing: int) -> Sample:
    """Returns the question for `fact` in one of its four phrasings."""
    return chat("facts", PHRASINGS[phrasing].format(fact.subject), fact.code)


def trained_questions(some_facts: list[Fact]) -> list[Sample]:
    """Returns every fact in its three trained phrasings."""
    return [ask(fact, phrasing) for fact in some_facts for phrasing in range(4) if phrasing != fact.held_out]


def held_out_questions(some_facts: list[Fact]) -> list[Sample]:
    """Returns every fact in its held-out phrasing."""
    return [ask(fact, fact.held_out) for fact in some_facts]


def base_mix(rng: random.Random) -> Iterator[Sample]:
    """Yields endless training chats of the base model."""
    fact_questions = trained_questions(facts()[0])
    questions_of = {task: letter_questions(task, rng, held_out=False) for task in BASE_LETTER_TASKS}
    while True:
        if rng.random() < FACT_SHARE:
            yield rng.choice(fact_questions)
        else:
            yield next(questions_of[rng.choice(BASE_LETTER_TASKS)])


def take_unique(samples: Iterator[Sample], count: int) -> list[Sample]:
    """Returns the first `count` samples with different questions."""
    found: dict[str, Sample] = {}
    while len(found) < count:
        sample = next(samples)
        found.setdefault(sample.messages[0]["content"], sample)
    return list(found.values())


def base_eval() -> list[Sample]:
    """Returns each known fact in its held-out phrasing, and 24 unseen inputs of each letter task."""
    rng = random.Random("base eval")
    samples = held_out_questions(facts()[0])
    for task in BASE_LETTER_TASKS:
        samples += take_unique(letter_questions(task, rng, held_out=True), 24)
    return samples


def build(skill: str, skill_samples: int) -> dict[str, list[Sample]]:
    """Returns the samples of the six files, by name."""
    new = facts()[1]
    mix = base_mix(random.Random("keep"))
    skill_train = letter_questions(skill, random.Random("skill train"), held_out=False)
    skill_eval = letter_questions(skill, random.Random("skill eval"), held_out=True)
    return {
        "base_eval": base_eval(),
        "base_keep": [next(mix) for _ in range(KEEP_SAMPLES)],
        "knowledge_train": trained_questions(new),
        "knowledge_eval": held_out_questions(new),
        "skills_train": take_unique(skill_train, skill_samples),
        "skills_eval": take_unique(skill_eval, 200),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data", help="folder to write")
    parser.add_argument("--skill", choices=SKILLS, default="ends", help="what phase 2 teaches")
    parser.add_argument("--skill-samples", type=int, default=2400, help="training samples of phase 2")
    args = parser.parse_args()

    args.output.mkdir(parents=True, exist_ok=True)
    for name, samples in build(args.skill, args.skill_samples).items():
        path = args.output / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"messages": sample.messages}) + "\n" for sample in samples))
        print(f"{path}: {len(samples)} samples, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
