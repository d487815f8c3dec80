"""Generated answers against transformers, one prompt at a time, without padding."""

import pytest
import torch
from small_model import VOCABULARY, make_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from osftx.data.prompts import Prompt
from osftx.evaluation.generation import Answer, generate, own_stop_ids

LONGEST = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    folder = make_model(tmp_path_factory.mktemp("model"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 15, (13,), generator=random).tolist()
    return [Prompt(torch.randint(3, VOCABULARY, (length,), generator=random).tolist(), [2]) for length in lengths]


def alone(model: PreTrainedModel, prompt: Prompt, stops: set[int]) -> tuple[list[int], int | None]:
    """Greedy decoding in its plainest form: the most likely token of a whole forward pass, again and again."""
    ids, answer = list(prompt.ids), []
    for _ in range(LONGEST):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in stops:
            return answer, token
        answer.append(token)
        ids.append(token)
    return answer, None


def test_batches_of_padded_prompts_give_the_tokens_of_each_prompt_alone(
    model: PreTrainedModel, prompts: list[Prompt]
) -> None:
    plain = [alone(model, prompt, {2}) for prompt in prompts]
    often = max({token for ids, _ in plain for token in ids}, key=[t for ids, _ in plain for t in ids].count)
    stops = {2, often}
    expected = [alone(model, prompt, stops) for prompt in prompts]
    assert {end is None for _, end in expected} == {True, False}
    answers = generate(model, prompts, [2, often], LONGEST, batch_size=4)
    found = sorted(answers, key=lambda answer: answer.index)
    assert [(answer.ids, answer.end) for answer in found] == expected


def test_the_models_own_settings_of_sampling_are_not_used(model: PreTrainedModel, prompts: list[Prompt]) -> None:
    before = generate(model, prompts, [2], LONGEST, 4)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True
    assert generate(model, prompts, [2], LONGEST, 4) == before


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_the_answers_do_not_depend_on_the_number_of_ranks(
    model: PreTrainedModel, prompts: list[Prompt], temperature: float
) -> None:
    def answers(ranks: int) -> list[Answer]:
        shares = [generate(model, prompts, [2], LONGEST, 3, temperature, 7, rank, ranks) for rank in range(ranks)]
        return sorted((answer for share in shares for answer in share), key=lambda answer: answer.index)

    assert [answer.index for answer in answers(1)] == list(range(len(prompts)))
    assert answers(1) == answers(2) == answers(5)


def test_stop_tokens_of_one_call_do_not_count_in_the_next(model: PreTrainedModel, prompts: list[Prompt]) -> None:
    before = generate(model, prompts, [2], LONGEST, 4)
    often = max((token for answer in before for token in answer.ids), key=[t for a in before for t in a.ids].count)
    assert generate(model, prompts, [2, often], LONGEST, 4) != before
    assert generate(model, prompts, [2], LONGEST, 4) == before


def test_sampling_follows_its_seed(model: PreTrainedModel, prompts: list[Prompt]) -> None:
    once, again, other = (generate(model, prompts, [2], LONGEST, 4, 2.0, seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other


@pytest.mark.parametrize(("given", "expected"), [(2, [2]), ([2, 3], [2, 3]), (None, [])])
def test_the_models_own_stop_tokens(model: PreTrainedModel, given: object, expected: list[int]) -> None:
    model.generation_config.eos_token_id = given
    assert own_stop_ids(model) == expected
