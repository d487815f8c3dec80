"""Checks on the model itself that it separates the samples of a packed row and respects its attention window.

Whether the positions, a mask or the window reach the attention of a model (or its recurrent layers) depends on the
model's code, and nothing fails if they do not: each sample would silently see the samples before it, or all of itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from osftx.models.attention import FLASH, VARLEN_SDPA, VARLEN_SINKS
from osftx.probes.forward_pass import gathering

LENGTH = 4
"""Number of tokens of each of the two samples."""
TOLERANCE = 1e-3
"""Maximum change of a logit, relative to the largest logit. If the samples are separate, no input of the second one
changes."""


def check_samples_apart(model: PreTrainedModel, device: torch.device) -> None:
    """Raises ValueError if a sample depends on the sample before it, or if the attention does not receive the window.

    The check compares the logits of two short passes. Collective.
    """
    training = model.training
    model.eval()
    vocabulary = model.config.get_text_config().vocab_size
    tokens = torch.arange(2 * LENGTH, device=device)[None]
    others = torch.cat([tokens[:, :LENGTH] + 2 * LENGTH, tokens[:, LENGTH:]], dim=1)
    with _windows_told(model) as told, gathering(model), torch.no_grad():
        one, other = (
            model(input_ids=row % vocabulary, position_ids=tokens % LENGTH, use_cache=False).logits[:, LENGTH:].float()
            for row in (tokens, others)
        )
    model.train(training)
    if told is not None and (window := _window_of(model)) is not None and window not in told:
        raise ValueError(
            f"{type(model).__name__} does not tell {model.config._attn_implementation} of its window of {window} "
            "tokens; set model.attn_implementation=sdpa"
        )
    if (one - other).abs().max() > TOLERANCE * one.abs().max():
        implementation = model.config._attn_implementation
        own = [VARLEN_SDPA] if model._supports_attention_backend else []
        choices = " or ".join(name for name in (*own, "sdpa", "eager") if name != implementation)
        raise ValueError(
            f"{type(model).__name__} under {implementation} lets the samples of one packed row see each other; try "
            f"model.attn_implementation={choices}; a model that does so under each of them cannot be trained here"
        )


def _window_of(model: PreTrainedModel) -> int | None:
    """Returns the number of tokens that some layer sees; None if it is not below the maximum length of a sample."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True) or "sliding_attention" not in kinds:
        return None
    return int(window) if window < getattr(config, "max_position_embeddings", window + 1) else None


@contextmanager
def _windows_told(model: PreTrainedModel) -> Iterator[set[int | None] | None]:
    """Yields the set of windows that the attention receives meanwhile; None if a mask contains the window."""
    name = model.config._attn_implementation
    if name not in (VARLEN_SDPA, VARLEN_SINKS, FLASH):
        yield None
        return
    told: set[int | None] = set()
    attention = ALL_ATTENTION_FUNCTIONS[name]

    def listening(*inputs: Any, sliding_window: int | None = None, **others: Any) -> Any:
        told.add(sliding_window)
        return attention(*inputs, sliding_window=sliding_window, **others)

    ALL_ATTENTION_FUNCTIONS.register(name, listening)
    try:
        yield told
    finally:
        ALL_ATTENTION_FUNCTIONS.register(name, attention)
