"""Generates answers with a plain transformers model that each rank holds as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel

from osftx.data.prompts import Prompt


@dataclass(frozen=True)
class Answer:
    """The model's answer to one prompt."""

    index: int
    """Index of the prompt in its evaluation set."""
    ids: list[int]
    """Token ids of the answer, without the token that ended it."""
    end: int | None
    """Token that ended the answer; None if it was cut off."""


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    stop_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    bar: "tqdm[Any] | None" = None,
) -> list[Answer]:
    """Returns the answers of this rank's share of the prompts.

    Prompts of similar length form batches, and every `world_size`-th batch is this rank's. The batches and their random
    numbers do not depend on the number of ranks.

    Args:
        model: a model in evaluation mode, on its device.
        prompts: all prompts of the set.
        stop_ids: tokens that end an answer, the model's own (`own_stop_ids`) among them.
        max_new_tokens: maximum number of tokens of an answer.
        batch_size: number of prompts of a batch.
        temperature: temperature of the sampling; 0 is greedy decoding.
        seed: seed of the sampling.
        rank: this rank, from 0.
        world_size: number of ranks.
        bar: the progress bar, in batches.
    """
    stops = sorted(set(stop_ids))
    answers: list[Answer] = []
    for number, batch in enumerate(_batches(prompts, batch_size)):
        if number % world_size != rank:
            continue
        torch.manual_seed(seed + number)
        new = _generated(model, [prompts[index].ids for index in batch], stops, max_new_tokens, temperature)
        answers += [_answer(index, ids, stops) for index, ids in zip(batch, new.tolist(), strict=True)]
        if bar is not None:
            bar.update()
    return answers


def own_stop_ids(model: PreTrainedModel) -> list[int]:
    """Returns the tokens that end a text according to the model's `generation_config.json`.

    It must be asked before `generate`, which replaces the model's settings.
    """
    given = model.generation_config.eos_token_id if model.generation_config is not None else None
    return [given] if isinstance(given, int) else list(given or [])


def _batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Yields the indices of the prompts of each batch, the longest prompts first, so that too little memory shows at
    once."""
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].ids), index))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _generated(
    model: PreTrainedModel, prompts: list[list[int]], stops: list[int], max_new_tokens: int, temperature: float
) -> Tensor:
    """Returns the new tokens of each prompt (prompts, new tokens); shorter answers end with padding."""
    longest, padding = max(map(len, prompts)), stops[0] if stops else 0
    ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    # The model's own file may ask for sampling or penalties, which greedy decoding must not take over.
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=stops or None, pad_token_id=padding, **sampling
    )
    with torch.no_grad():
        whole = cast(Any, model).generate(input_ids=ids, attention_mask=mask)
    assert isinstance(whole, Tensor)
    return whole[:, longest:]


def _answer(index: int, ids: list[int], stops: list[int]) -> Answer:
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    return Answer(index, ids[:end], ids[end] if end is not None else None)
