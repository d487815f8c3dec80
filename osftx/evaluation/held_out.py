"""Measures a model on held-out conversations: loss, token accuracy and exact match.

One teacher-forced pass decides exact match: greedy decoding yields the reference turn exactly if every reference token
is the arg-max given the reference before it.
"""

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from osftx.data.formats import IGNORED_LABEL
from osftx.distributed.engine import Engine
from osftx.training.batches import MicroBatch, Samples, plan_step

LOGITS_AT_ONCE = 1024
"""Number of positions for which the loss is computed at a time."""


def evaluate(engine: Engine, samples: Samples, max_tokens: int, device: torch.device) -> dict[str, float]:
    """Returns the scores of the engine's model on `samples`, in micro-batches of `max_tokens` tokens. Collective.

    The keys are `loss` (nats per counted token), `token_accuracy`, `exact_match` (the share of samples of which every
    counted token, in all assistant turns, is predicted correctly), `samples` and `counted_tokens`.
    """
    step = plan_step(samples, range(len(samples)), max_tokens, dist.get_rank(), dist.get_world_size(), device)
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    training = engine.module.training
    engine.eval()
    with torch.no_grad():
        for batch in step.micro_batches:
            sums += _measure(engine, batch)
    engine.train(training)
    dist.all_reduce(sums)
    loss, correct, exact, tokens = sums.tolist()
    return {
        "loss": loss / tokens,
        "token_accuracy": correct / tokens,
        "exact_match": exact / len(samples),
        "samples": len(samples),
        "counted_tokens": int(tokens),
    }


def check_finite(measured: Mapping[str, Mapping[str, float]], steps: int) -> None:
    """Raises FloatingPointError if a loss is not finite.

    `measured` holds the figures by the name of what was measured, after `steps` optimizer steps.
    """
    for name, figures in measured.items():
        if not math.isfinite(figures["loss"]):
            remedy = "lower learning_rate" if steps else "the model fails before any training: check its weights"
            raise FloatingPointError(
                f"the loss on {name} is {figures['loss']} after {steps} steps; {remedy}, or set train_dtype=float32"
            )


def _measure(engine: Engine, batch: MicroBatch) -> Tensor:
    """Returns sums over one micro-batch (4,): loss, correct tokens, samples with all tokens correct, counted tokens."""
    counted = (batch.labels[0] != IGNORED_LABEL).nonzero()[:, 0]
    # Only these positions need logits. A dummy batch requests one position, because its forward pass is collective too.
    wanted = counted - 1 if len(counted) else counted.new_zeros(1)
    logits = engine(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, logits_to_keep=wanted
    ).logits[0]
    if not len(counted):
        return torch.zeros(4, dtype=torch.float64, device=logits.device)
    labels = batch.labels[0, counted]
    # The logits are processed in parts: in fp32 all logits of a large vocabulary take more memory than a training step.
    parts = zip(logits.split(LOGITS_AT_ONCE), labels.split(LOGITS_AT_ONCE), strict=True)
    loss = torch.stack([functional.cross_entropy(part.float(), own, reduction="sum") for part, own in parts]).sum()
    wrong = logits.argmax(-1) != labels
    wrong_by_sample = torch.zeros(len(batch.chosen), device=logits.device).index_add_(
        0, batch.samples[counted], wrong.float()
    )
    figures = [loss, (~wrong).sum(), (wrong_by_sample == 0).sum(), torch.tensor(len(counted))]
    return torch.stack([figure.to(logits.device, torch.float64) for figure in figures])
