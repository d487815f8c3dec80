"""Whether a model keeps the samples of one packed row apart, asked of the model itself.

Whether the positions, or a mask, reach the attention of a model (or its recurrent layers) depends on its code, and
nothing fails where they do not: each sample would silently see those before it.
"""

import torch
from transformers import PreTrainedModel

from osftx.training.reading import gathering

LENGTH = 4
"""Tokens of each of two samples."""
TOLERANCE = 1e-3
"""Relative to the largest logit. Where samples are apart, nothing that the second one is computed from changes."""


def check_samples_apart(model: PreTrainedModel, device: torch.device) -> None:
    """Raise ValueError if the logits of a sample change with the sample before it. Two short passes; collective."""
    training = model.training
    model.eval()
    vocabulary = model.config.get_text_config().vocab_size
    tokens = torch.arange(2 * LENGTH, device=device)[None]
    others = torch.cat([tokens[:, :LENGTH] + 2 * LENGTH, tokens[:, LENGTH:]], dim=1)
    with gathering(model), torch.no_grad():
        one, other = (
            model(input_ids=row % vocabulary, position_ids=tokens % LENGTH, use_cache=False).logits[:, LENGTH:].float()
            for row in (tokens, others)
        )
    model.train(training)
    if (one - other).abs().max() > TOLERANCE * one.abs().max():
        raise ValueError(
            f"{type(model).__name__} under {model.config._attn_implementation} lets the samples of one packed row see "
            "each other; try another model.attn_implementation (varlen_sdpa, sdpa, eager), or another model"
        )
