"""Write the evaluation and fine-tuning data of the tiny two-phase experiment.

    python experiments/tiny/make_data.py

Everything is drawn from fixed seeds: the command always writes the same six files under `data/`, one chat per
line, as `{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}`.

base       What the shipped base model was trained on: operations on lists of letters or digits, and facts
           about people. The training mix is endless (`train_base.py` draws it); here are its evaluation, and a
           sample of it (`base_keep`) that shows what must be kept where activations choose the free subspaces.
knowledge  Phase 1: facts about the same people which the base mix left out.
skills     Phase 2: `reverse the next letters`, two operations of the base mix at once. The base never saw it.

No evaluation question is ever trained on. Questions about lists are split by a hash of the question. A fact is
trained in three of its four phrasings and asked in the fourth, in which other facts were trained.
Both phases use only words of the base mix: a word that the base has never seen has an embedding of its own,
and any method can store what is new there at no cost to the rest.
"""

import argparse
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
BASE_LIST_TASKS = (
    "copy", "reverse", "sort", "next letters", "swap pairs", "double", "first", "last", "largest", "smallest",
)  # fmt: skip
SKILL = "reverse the next letters"

NAMES = """
ada ben cleo dan eva finn gus hana ivan jo kim leo mia nora omar pia ravi sam tara uma vera will xena yann zoe
abel bea carl dora eli fay glen hugo ines jack kate liam mona nils olga paul ruth sven tess ugo vic wes yuri
"""
VALUES = {
    "city": "rome paris oslo cairo lima tokyo delhi quito bern dakar hanoi turin",
    "color": "red blue green pink gold gray teal lime plum navy rust cyan",
    "pet": "cat dog fish bird frog goat duck crab newt mole hare lamb",
    "job": "baker nurse pilot judge miner tailor clerk actor guide smith monk scout",
}
# No phrasing starts with the name: the tokenizer has another token for a word without a space before it.
PHRASINGS = {
    "city": (
        "where does {} live?",
        "which city is home to {}?",
        "name the city of {}",
        "in which city lives {}?",
    ),
    "color": (
        "what color does {} like?",
        "which color is dear to {}?",
        "name the color of {}",
        "the best color for {}?",
    ),
    "pet": (
        "what pet does {} have?",
        "which pet is with {}?",
        "name the pet of {}",
        "the animal that {} keeps?",
    ),
    "job": (
        "what job does {} do?",
        "which job is done by {}?",
        "name the job of {}",
        "how does {} earn money?",
    ),
}
NEW_FACTS_PER_RELATION = 16
KEEP_SAMPLES = 1000
SYSTEM_PROMPTS = ("you are a careful assistant.", "answer with the result only.")


class Sample(NamedTuple):
    """One chat, and the task it belongs to: `train_base.py` reports by task, the files do not carry it."""

    task: str
    messages: list[dict[str, str]]


class Fact(NamedTuple):
    """`name` has `value` for `relation`; `held_out` is the index of the phrasing kept for evaluation."""

    name: str
    relation: str
    value: str
    held_out: int


def chat(task: str, question: str, answer: str) -> Sample:
    """A chat of one turn."""
    return Sample(task, [{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


def next_letter(letter: str) -> str:
    """The letter after `letter`, and `a` after `z`."""
    return LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)]


def list_question(task: str, rng: random.Random) -> Sample:
    """One list operation on 3 to 6 different random items."""
    length = rng.choice((4, 6)) if task == "swap pairs" else rng.randint(3, 6)
    items = rng.sample(DIGITS if task in ("largest", "smallest") else LETTERS, length)
    match task:
        case "copy":
            answer = items
        case "reverse":
            answer = items[::-1]
        case "sort":
            answer = sorted(items)
        case "next letters":
            answer = [next_letter(item) for item in items]
        case "swap pairs":
            answer = [items[position ^ 1] for position in range(length)]
        case "double":
            answer = [item for item in items for _ in range(2)]
        case "first":
            answer = items[:1]
        case "last":
            answer = items[-1:]
        case "largest":
            answer = [max(items)]
        case "smallest":
            answer = [min(items)]
        case "reverse the next letters":
            answer = [next_letter(item) for item in reversed(items)]
        case _:
            raise ValueError(f"unknown list task {task!r}")
    return chat(task, f"{task}: {' '.join(items)}", " ".join(answer))


def list_questions(task: str, rng: random.Random, *, held_out: bool) -> Iterator[Sample]:
    """Endless questions from one side of the split: an eighth of all questions is held out for evaluation."""
    while True:
        sample = list_question(task, rng)
        if (zlib.crc32(sample.messages[0]["content"].encode()) % 8 == 0) == held_out:
            yield sample


def facts() -> tuple[list[Fact], list[Fact]]:
    """`(known, new)`: the facts of the base mix and those of phase 1, about the same people and relations."""
    rng = random.Random("facts")
    names = NAMES.split()
    known, new = [], []
    for relation_index, (relation, values) in enumerate(VALUES.items()):
        names_left_out = set(rng.sample(names, NEW_FACTS_PER_RELATION))
        for name_index, name in enumerate(names):
            value = rng.choice(values.split())
            fact = Fact(name, relation, value, held_out=(name_index + relation_index) % 4)
            (new if name in names_left_out else known).append(fact)
    return known, new


def ask(fact: Fact, phrasing: int) -> Sample:
    """The question for `fact` in one of its four phrasings."""
    return chat("facts", PHRASINGS[fact.relation][phrasing].format(fact.name), fact.value)


def trained_questions(some_facts: list[Fact]) -> list[Sample]:
    """Every fact in its three trained phrasings."""
    return [ask(fact, phrasing) for fact in some_facts for phrasing in range(4) if phrasing != fact.held_out]


def held_out_questions(some_facts: list[Fact]) -> list[Sample]:
    """Every fact in its fourth phrasing."""
    return [ask(fact, fact.held_out) for fact in some_facts]


def base_mix(rng: random.Random) -> Iterator[Sample]:
    """Endless training chats: a quarter facts; an eighth has a system turn, an eighth a second question."""
    fact_questions = trained_questions(facts()[0])
    questions_of = {task: list_questions(task, rng, held_out=False) for task in BASE_LIST_TASKS}

    def question() -> Sample:
        if rng.random() < 0.25:
            return rng.choice(fact_questions)
        return next(questions_of[rng.choice(BASE_LIST_TASKS)])

    while True:
        task, messages = question()
        shape = rng.randrange(8)
        if shape == 0:
            messages = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}, *messages]
        elif shape == 1:
            messages = messages + question().messages
        yield Sample(task, messages)


def take_unique(samples: Iterator[Sample], count: int) -> list[Sample]:
    """The first `count` samples with different questions."""
    found: dict[str, Sample] = {}
    while len(found) < count:
        sample = next(samples)
        found.setdefault(sample.messages[0]["content"], sample)
    return list(found.values())


def base_eval() -> list[Sample]:
    """Each known fact in its held-out phrasing, and 24 unseen inputs of each list task."""
    rng = random.Random("base eval")
    samples = held_out_questions(facts()[0])
    for task in BASE_LIST_TASKS:
        samples += take_unique(list_questions(task, rng, held_out=True), 24)
    return samples


def build(skill_samples: int) -> dict[str, list[Sample]]:
    """The six files: name -> samples."""
    new = facts()[1]
    mix = base_mix(random.Random("keep"))
    skill_train = list_questions(SKILL, random.Random("skill train"), held_out=False)
    skill_eval = list_questions(SKILL, random.Random("skill eval"), held_out=True)
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
    parser.add_argument("--skill-samples", type=int, default=2400, help="training samples of phase 2")
    args = parser.parse_args()

    args.output.mkdir(parents=True, exist_ok=True)
    for name, samples in build(args.skill_samples).items():
        path = args.output / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"messages": sample.messages}) + "\n" for sample in samples))
        print(f"{path}: {len(samples)} samples, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
