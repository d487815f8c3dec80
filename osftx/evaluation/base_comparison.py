"""Compares a model with the start model of the run, on the start model's own answers. It needs no labels.

The Kullback-Leibler divergence on the new task foretells what is forgotten (Shenfeld et al., "RL's Razor", arXiv
2509.04259); here it is taken on prompts whose answers should stay as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from osftx.data.prompts import Prompt

POSITIONS_AT_ONCE = 512
"""Number of positions whose fp32 probabilities are held at a time."""


def compare(
    model: PreTrainedModel,
    base: PreTrainedModel,
    answered: Sequence[Prompt],
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Tensor:
    """Returns sums over this rank's share of the answers, (4,) float64: divergence, agreeing tokens, unchanged answers,
    and tokens.

    The divergence is KL(base, model) in nats at each token of an answer. A token agrees if it is the model's most
    likely one after the tokens before it. An answer of which all tokens agree is unchanged: greedy decoding gives it
    again.

    Args:
        model: the model, in evaluation mode.
        base: the start model, in evaluation mode, on the same device.
        answered: the prompts; `reference` holds the start model's answers, at least one token each.
        batch_size: number of answers of a batch.
        rank: this rank, from 0.
        world_size: number of ranks.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=model.device)
    order = sorted(range(len(answered)), key=lambda index: (-_length(answered[index]), index))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for batch in batches[rank::world_size]:
        sums += _compared(model, base, [answered[index] for index in batch])
    return sums


def _length(prompt: Prompt) -> int:
    return len(prompt.ids) + len(prompt.reference)


def _compared(model: PreTrainedModel, base: PreTrainedModel, rows: Sequence[Prompt]) -> Tensor:
    """Returns the sums of `compare` over one batch."""
    longest = max(map(_length, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    counted = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, prompt in enumerate(rows):
        end = _length(prompt)
        ids[row, :end] = torch.tensor([*prompt.ids, *prompt.reference])
        mask[row, :end] = 1
        counted[row, len(prompt.ids) : end] = True
    ids, mask, counted = (tensor.to(model.device) for tensor in (ids, mask, counted))
    predicting = counted[:, 1:]  # the logits at a position predict the token behind it
    with torch.no_grad():
        ours, theirs = (
            one(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1][predicting] for one in (model, base)
        )
    divergence = sum(map(_divergence, ours.split(POSITIONS_AT_ONCE), theirs.split(POSITIONS_AT_ONCE)))
    agrees = ours.argmax(-1) == ids[:, 1:][predicting]
    rows_of = torch.arange(len(rows), device=model.device)[:, None].expand_as(predicting)[predicting]
    differing = torch.zeros(len(rows), device=model.device).index_add_(0, rows_of, (~agrees).float())
    figures = [divergence, agrees.sum(), (differing == 0).sum(), torch.tensor(len(agrees))]
    return torch.stack([torch.as_tensor(figure).to(model.device, torch.float64) for figure in figures])


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns the sum of KL(theirs, ours) over all positions; both are logits (positions, vocabulary)."""
    own, base = (functional.log_softmax(logits.float(), -1) for logits in (ours, theirs))
    return functional.kl_div(own, base, reduction="sum", log_target=True)
