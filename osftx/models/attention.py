"""Attention over packed rows, and the choice among transformers' implementations of attention.

With a mask, attention costs the square of a row's tokens, however short its samples are. `varlen_sdpa` runs each sample
separately: the cost is the sum of the squares of the samples' tokens, no mask is needed, and the result does not depend
on which samples share the row.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_flash_attn_2_available

VARLEN_SDPA = "varlen_sdpa"
VARLEN_SINKS = "varlen_sinks"
"""Second name of `varlen_sdpa`. transformers refuses names with `sdpa` for models that SDPA alone cannot run."""
FLASH = "flash_attention_2"
EAGER = "eager"
AUTO = "auto"
UNSUPPORTED = ("softcap", "position_bias")
"""Arguments, by transformers' names, with which some models ask for features that `varlen_sdpa` does not have."""
SINKS = ("GptOssForCausalLM",)
"""Models that SDPA cannot run only because of their attention sinks."""
WIDEST_GROUPED = 256


def choose_attention(
    model: type[PreTrainedModel] | None, device: str, dtype: torch.dtype, capped: bool = False
) -> str | None:
    """Returns the best implementation that is correct for packed samples; None leaves the choice to transformers.

    `device` is a type such as `cuda`; `model` is None for a class that is not known before it is loaded; `capped` says
    whether the logits of the attention have a soft cap.
    """
    if model is None or not model._supports_flash_attn:
        return None
    kinds = getattr(model, "_compatible_flash_implementations", None) or [FLASH]
    if device == "cuda" and dtype.itemsize == 2 and FLASH in kinds and is_flash_attn_2_available():
        return FLASH
    if capped:  # some versions of transformers would use SDPA and omit the cap
        return EAGER
    # Both find the samples by the positions, and support a window by its size. A model that SDPA cannot run has further
    # features in its attention, such as a cap on the logits.
    if model.__name__ in SINKS:
        return VARLEN_SINKS
    return VARLEN_SDPA if model._supports_sdpa and model._supports_attention_backend else None


def varlen_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_ids: Tensor | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Computes the causal attention of one row of packed samples, as an attention function of transformers.

    `query` is (1, heads, tokens, width), `key` and `value` (1, key-value heads, tokens, width); `position_ids` (1,
    tokens) begin at 0 with each sample; `s_aux` (heads,) are the logits of the sinks, which receive attention and
    contribute nothing. Returns (1, tokens, heads, width). Raises ValueError for other rows (padded ones, those with a
    mask or without positions) and for attention with features that are not supported.
    """
    if attention_mask is not None or position_ids is None or query.shape[0] != 1 or is_causal is False:
        raise ValueError(
            f"{type(module).__name__} does not hand its attention one packed row with its positions; set "
            "model.attn_implementation=sdpa"
        )
    if unknown := [name for name in UNSUPPORTED if others.get(name) is not None]:
        raise ValueError(f"{type(module).__name__} wants {unknown[0]}; set model.attn_implementation=eager")
    lengths = _sample_lengths(position_ids)
    masked = s_aux is not None or any(length > (sliding_window or length) for length in lengths)
    if masked or query.shape[-1] > WIDEST_GROUPED:
        # With a mask or wide heads, grouped heads would run on a GPU's slowest kernel.
        key, value = (heads.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for heads in (key, value))
    attended = []
    for q, k, v in zip(*(whole.split(lengths, dim=2) for whole in (query, key, value)), strict=True):
        mask = _window(q.shape[2], sliding_window, q.device)
        if s_aux is not None:
            mask = _with_sink(mask, q.shape[2], s_aux)
        attended.append(
            functional.scaled_dot_product_attention(
                q,
                k if s_aux is None else _behind_sink(k),
                v if s_aux is None else _behind_sink(v),
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


class _SampleLengths:
    """Computes the lengths of the samples in a row, and remembers those of the last row.

    All layers of a model ask for the same row, and on a GPU each computation would wait for the device.
    """

    def __init__(self) -> None:
        self._row: Callable[[], Tensor | None] = lambda: None
        self._lengths: list[int] = []

    def __call__(self, position_ids: Tensor) -> list[int]:
        if self._row() is not position_ids:
            positions = position_ids[0]
            begins = (positions == 0).nonzero()[:, 0].tolist()
            self._lengths = [end - begin for begin, end in pairwise([*begins, len(positions)])]
            self._row = ref(position_ids)
        return self._lengths


_sample_lengths = _SampleLengths()


def _window(tokens: int, size: int | None, device: torch.device) -> Tensor | None:
    """Returns which keys each query sees (tokens, tokens); None if each query sees all keys before it."""
    if size is None or tokens <= size:
        return None
    places = torch.arange(tokens, device=device)
    distance = places[:, None] - places
    return (distance >= 0) & (distance < size)


def _behind_sink(heads: Tensor) -> Tensor:
    """Returns keys or values (1, heads, tokens, width) with a zero one prepended."""
    return functional.pad(heads, (0, 0, 1, 0))


def _with_sink(window: Tensor | None, tokens: int, sinks: Tensor) -> Tensor:
    """Returns the bias of the logits (heads, tokens, 1 + tokens), with a first key of zeros as the sink."""
    if window is None:
        window = torch.ones(tokens, tokens, dtype=torch.bool, device=sinks.device).tril()
    unseen = torch.zeros(tokens, tokens, dtype=sinks.dtype, device=sinks.device).masked_fill(~window, -torch.inf)
    return torch.cat([sinks[:, None, None].expand(-1, tokens, 1), unseen.expand(len(sinks), -1, -1)], dim=-1)


# As the names are not registered among the mask functions, transformers builds no mask.
ALL_ATTENTION_FUNCTIONS.register(VARLEN_SDPA, varlen_sdpa)
ALL_ATTENTION_FUNCTIONS.register(VARLEN_SINKS, varlen_sdpa)
