"""The comparison with the start model against plain torch, one answer at a time and without padding."""

from pathlib import Path

import pytest
import torch
from small_model import VOCABULARY, make_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from osftx.data.prompts import Prompt
from osftx.evaluation.base_comparison import compare
from osftx.evaluation.generation import generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def loaded(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def base(folder: Path) -> PreTrainedModel:
    return loaded(folder)


@pytest.fixture(scope="module")
def changed(folder: Path) -> PreTrainedModel:
    """The base with a little noise on its head, so that some answers change and some do not."""
    model = loaded(folder)
    torch.manual_seed(3)
    model.lm_head.weight.data += 0.03 * torch.randn_like(model.lm_head.weight)
    return model


@pytest.fixture(scope="module")
def answered(base: PreTrainedModel) -> list[Prompt]:
    """Prompts with the base's own greedy answers."""
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 15, (11,), generator=random).tolist()
    prompts = [Prompt(torch.randint(3, VOCABULARY, (length,), generator=random).tolist(), [2]) for length in lengths]
    answers = sorted(generate(base, prompts, [2], 9, 4), key=lambda answer: answer.index)
    ends = [[] if answer.end is None else [answer.end] for answer in answers]
    return [Prompt(prompt.ids, answer.ids + end) for prompt, answer, end in zip(prompts, answers, ends, strict=True)]


def plainly(model: PreTrainedModel, base: PreTrainedModel, answered: list[Prompt]) -> list[float]:
    divergence, agreeing, unchanged, tokens = 0.0, 0, 0, 0
    for prompt in answered:
        ids = torch.tensor([[*prompt.ids, *prompt.reference]])
        start = len(prompt.ids) - 1
        with torch.no_grad():
            ours = model(input_ids=ids).logits[0, start:-1].softmax(-1)
            theirs = base(input_ids=ids).logits[0, start:-1].softmax(-1)
        divergence += float((theirs * (theirs / ours).log()).sum())
        agrees = ours.argmax(-1) == torch.tensor(prompt.reference)
        agreeing, unchanged, tokens = agreeing + int(agrees.sum()), unchanged + bool(agrees.all()), tokens + len(agrees)
    return [divergence, agreeing, unchanged, tokens]


def test_the_start_model_agrees_with_itself(base: PreTrainedModel, answered: list[Prompt]) -> None:
    divergence, agreeing, unchanged, tokens = compare(base, base, answered, 4).tolist()
    assert divergence == 0
    assert agreeing == tokens == sum(len(prompt.reference) for prompt in answered)
    assert unchanged == len(answered)


def test_figures_are_those_of_plain_torch(
    base: PreTrainedModel, changed: PreTrainedModel, answered: list[Prompt]
) -> None:
    expected = plainly(changed, base, answered)
    assert 0 < expected[2] < len(answered)
    assert compare(changed, base, answered, 4).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ranks", [2, 5])
def test_the_ranks_shares_make_up_the_whole(
    base: PreTrainedModel, changed: PreTrainedModel, answered: list[Prompt], ranks: int
) -> None:
    shares = sum(compare(changed, base, answered, 3, rank, ranks) for rank in range(ranks))
    assert isinstance(shares, torch.Tensor)
    assert shares.tolist() == pytest.approx(compare(changed, base, answered, 3).tolist(), rel=1e-6)


def test_an_unchanged_answer_is_one_that_is_generated_again(
    base: PreTrainedModel, changed: PreTrainedModel, answered: list[Prompt]
) -> None:
    again = sorted(generate(changed, answered, [2], 9, 4), key=lambda answer: answer.index)
    same = [
        answer.ids + ([] if answer.end is None else [answer.end]) == prompt.reference
        for answer, prompt in zip(again, answered, strict=True)
    ]
    assert sum(same) == compare(changed, base, answered, 4)[2]
