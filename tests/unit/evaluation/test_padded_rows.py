import pytest

from osftx.evaluation.padded_rows import attention_for_padded_rows


@pytest.mark.parametrize(
    ("configured", "used"), [("auto", None), ("varlen_sdpa", None), ("eager", "eager"), ("sdpa", "sdpa")]
)
def test_attention_of_packed_rows_is_not_used(configured: str, used: str | None) -> None:
    assert attention_for_padded_rows(configured) == used
