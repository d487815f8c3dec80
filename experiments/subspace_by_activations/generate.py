"""Writes conversations that the tiny base makes up, a preserve set for users who have no data of the model's own.

    python experiments/subspace_by_activations/generate.py --output FILE

The base receives the first word of a user, continues to the end of the turn, and then answers itself. Both are sampled
at temperature 1 from a fixed seed. It was trained on answers alone, so its questions are not those that it was asked.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

from make_data import BASE_LETTER_TASKS, KEEP_SAMPLES, PHRASINGS

BASE = Path(__file__).parents[1] / "tiny" / "base"
FIRST_WORDS = (*BASE_LETTER_TASKS, *(phrasing.split()[0] for phrasing in PHRASINGS))
MOST_TOKENS = 8
"""Largest number of tokens written in a turn; the base's own questions and answers have up to 7."""


@torch.no_grad()
def continued(model: LlamaForCausalLM, rows: list[list[int]], end: int) -> list[list[int]]:
    """Returns what the model writes after each of the `rows`, all of the same length, before the first `end`."""
    ids = torch.tensor(rows)
    start = ids.shape[1]
    for _ in range(MOST_TOKENS):
        following = torch.multinomial(model(input_ids=ids).logits[:, -1].softmax(-1), 1)
        ids = torch.cat([ids, following], dim=1)
    return [row[: row.index(end)] if end in row else row for row in ids[:, start:].tolist()]


def conversations(count: int) -> list[list[dict[str, str]]]:
    """Returns `count` questions and answers, whose first words alternate; those with an empty answer are left out."""
    torch.manual_seed(0)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(BASE)
    model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    asked = [f"<|im_start|>user\n{FIRST_WORDS[number % len(FIRST_WORDS)]} " for number in range(count)]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked]
    questions = [tokenizer.decode(row[-2:] + more) for row, more in zip(rows, continued(model, rows, end), strict=True)]
    by_length: dict[int, list[tuple[str, list[int]]]] = defaultdict(list)
    for question in questions:
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        by_length[len(ids)].append((question, ids))
    made = []
    for same_length in by_length.values():
        answers = continued(model, [ids for _, ids in same_length], end)
        for (question, _), answer in zip(same_length, map(tokenizer.decode, answers), strict=True):
            if answer.strip():
                made.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    lines = (json.dumps({"messages": messages}) + "\n" for messages in conversations(KEEP_SAMPLES))
    args.output.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
