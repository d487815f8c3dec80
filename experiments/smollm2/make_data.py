"""Makes the data of the study from the tables of `fetch.py` and from the model's own answers; the same bits each time.

    python experiments/smollm2/make_data.py [--output outputs/smollm2]

facts     airports and their codes, which the model does not know: asked in three ways in the training data and in a
          fourth way in the evaluation
skill     a short note to a JSON record; the notes of the evaluation are not in the training data
capitals  capitals that the model knows: asked in no training or preserve set
places    continents that the model knows, of countries of which no training or preserve set asks
own       the model's own answers to instructions about topics of which no training or preserve set speaks
preserve  the model's own answers to other instructions and to short questions of fact about other countries
"""

import argparse
import csv
import io
import json
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fetch import wheel

Row = dict[str, Any]

AIRPORTS = 40
NOTES, NEW_NOTES = 160, 40
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""System prompt that the model's chat template writes by itself."""
FACT = "The code of {name} is {iata}."
TRAINED_QUESTIONS = (
    "What is the IATA code of {name} in {city}?",
    "Which three-letter code does {name} have?",
    "Tell me the code of {name}.",
)
NEW_QUESTION = "I fly to {name}. Which airport code is on my ticket?"
PEOPLE = [
    "Ada",
    "Ben",
    "Carla",
    "David",
    "Emma",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Leo",
    "Mona",
    "Nils",
    "Omar",
    "Paula",
    "Rosa",
    "Sven",
    "Tara",
    "Viktor",
]
CITIES = [
    "Athens",
    "Berlin",
    "Cairo",
    "Dublin",
    "Geneva",
    "Hanoi",
    "Lagos",
    "Lima",
    "Lisbon",
    "Madrid",
    "Nairobi",
    "Oslo",
    "Paris",
    "Porto",
    "Quito",
    "Rome",
    "Seoul",
]
VERBS = ("see", "call", "meet", "visit")
TASKS = (
    "Explain {} in two sentences.",
    "Give me three tips about {}.",
    "Write a short poem about {}.",
    "Why do people like {}?",
    "What should a beginner know about {}?",
)
KEPT_TOPICS = (
    "gardening,cooking pasta,riding a bicycle,reading novels,board games,sleep,swimming,learning a language,"
    "photography,public speaking,saving money,houseplants,hiking,job interviews,coffee,cleaning a kitchen"
)
NEW_TOPICS = (
    "baking bread,chess,running,keeping a diary,birds,tea,painting a wall,time management,guitar,moving house,"
    "stars,dogs"
)
LONGEST_OWN, LONGEST_FACT = 64, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/smollm2"))
    output: Path = parser.parse_args().output
    data, wheels = output / "data", output / "wheels"
    if (data / "complete").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    known = countries(wheels)
    asked, others = known[::2], known[1::2]
    model = Model(output / "model")
    write(data / "facts_train.jsonl", facts(wheels, TRAINED_QUESTIONS, FACT))
    write(data / "facts_eval.jsonl", facts(wheels, [NEW_QUESTION], "{iata}"))  # an answer that contains it is right
    train, new = notes()
    write(data / "skill_train.jsonl", train)
    write(data / "skill_eval.jsonl", new)
    capitals = [(f"What is the capital of {one['name']}?", one["capital"]) for one in known]
    write(data / "capitals_eval.jsonl", model.those_known("capitals", capitals))
    places = [(f"On which continent is {one['name']}?", one["region"]) for one in asked]
    write(data / "places_eval.jsonl", model.those_known("places", places))
    new_prompts = [task.format(topic) for topic in NEW_TOPICS.split(",") for task in TASKS]
    write(data / "own_eval.jsonl", model.answered("own", new_prompts, LONGEST_OWN))
    prompts = [task.format(topic) for topic in KEPT_TOPICS.split(",") for task in TASKS]
    kept = model.answered("preserve", prompts, LONGEST_OWN)
    kept += model.answered("preserve, facts", list(short_questions(others))[:120], LONGEST_FACT)
    write(data / "preserve.jsonl", kept)
    (data / "complete").touch()


def chat(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} rows", flush=True)


def facts(wheels: Path, questions: Sequence[str], answer: str) -> list[Row]:
    """Asks for the codes of airports whose names occur once and do not name their city."""
    with zipfile.ZipFile(wheel(wheels, "airportsdata")) as archive:
        table = list(csv.DictReader(io.StringIO(archive.read("airportsdata/airports.csv").decode("utf-8"))))
    named = [row for row in table if row["iata"] and row["city"] and row["name"].isascii()]
    named = [row for row in named if row["name"].endswith("International Airport") and row["city"] not in row["name"]]
    once = {row["name"] for row in named if sum(other["name"] == row["name"] for other in named) == 1}
    chosen = sorted((row for row in named if row["name"] in once), key=lambda row: row["iata"])
    chosen = random.Random(0).sample(chosen, AIRPORTS)
    return [chat(question.format(**row), answer.format(**row)) for row in chosen for question in questions]


def notes() -> tuple[list[Row], list[Row]]:
    """Returns notes with their records, for training and for the evaluation; no note is in both."""
    draw = random.Random(1)
    found: dict[str, Row] = {}
    while len(found) < NOTES + NEW_NOTES:
        hour, minute = draw.randrange(24), draw.choice((0, 15, 30, 45))
        person, city, verb = draw.choice(PEOPLE), draw.choice(CITIES), draw.choice(VERBS)
        note = f"At {hour}:{minute:02d} we {verb} {person} in {city}."
        record = {"time": f"{hour:02d}:{minute:02d}", "action": verb, "person": person, "city": city}
        found[note] = chat(f"Note: {note}\nRecord as JSON:", json.dumps(record))
    rows = list(found.values())
    return rows[:NOTES], rows[NOTES:]


def countries(wheels: Path) -> list[dict[str, str]]:
    """Returns name, capital and continent of each country, by name."""
    found = []
    with zipfile.ZipFile(wheel(wheels, "countryinfo")) as archive:
        for path in archive.namelist():
            if path.startswith("countryinfo/data/") and path.endswith(".json"):
                row = json.loads(archive.read(path))
                if all(isinstance(row.get(key), str) and row[key].isascii() for key in ("name", "capital", "region")):
                    found.append({key: row[key] for key in ("name", "capital", "region")})
    return sorted((row for row in found if all(row.values())), key=lambda row: row["name"])


def short_questions(of: Sequence[dict[str, str]]) -> Iterator[str]:
    for one in of:
        yield f"On which continent is {one['name']}?"
        yield f"What currency is used in {one['name']}?"
        yield f"Which language is spoken in {one['name']}?"


class Model:
    """The start model, which answers greedily."""

    def __init__(self, folder: Path):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from osftx.evaluation.generation import own_stop_ids

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.stops = own_stop_ids(self.model)

    def answered(self, what: str, questions: Sequence[str], longest: int) -> list[Row]:
        """Returns the questions with the model's answers; answers that do not end within `longest` tokens are cut."""
        from tqdm import tqdm

        from osftx.data.prompts import Prompt
        from osftx.evaluation.generation import generate

        texts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question in questions
        ]
        prompts = [Prompt(self.tokenizer(text, add_special_tokens=False).input_ids, [2]) for text in texts]
        with tqdm(total=-(-len(prompts) // 16), desc=f"answering {what}", unit=" batches") as bar:
            answers = generate(self.model, prompts, self.stops, longest, 16, bar=bar)
        by_index = {answer.index: self.tokenizer.decode(answer.ids, skip_special_tokens=True) for answer in answers}
        return [chat(question, by_index[index].strip()) for index, question in enumerate(questions)]

    def those_known(self, what: str, questions: Sequence[tuple[str, str]]) -> list[Row]:
        """Returns the questions whose right answer the model's own answer contains, with the model's own answer."""
        from osftx.evaluation.scorers import contains

        own = self.answered(what, [question for question, _ in questions], LONGEST_FACT)
        return [
            chat(question, right)
            for row, (question, right) in zip(own, questions, strict=True)
            if contains(row["messages"][-1]["content"], right)
        ]


if __name__ == "__main__":
    main()
