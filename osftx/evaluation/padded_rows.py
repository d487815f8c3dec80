"""The attention of measurements that pad their rows, such as generated answers and benchmarks."""

FOR_PACKED_ROWS = ("auto", "varlen_sdpa")
"""Values of `model.attn_implementation` that stand for the attention of packed rows."""


def attention_for_padded_rows(configured: str) -> str | None:
    """Returns the attention implementation for padded rows; None leaves the choice to transformers.

    `configured` is `model.attn_implementation`.
    """
    return None if configured in FOR_PACKED_ROWS else configured
