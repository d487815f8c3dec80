import math

import pytest

from osftx.evaluation.held_out import check_finite


@pytest.mark.parametrize(("steps", "remedy"), [(0, "fails before any training"), (7, "lower learning_rate")])
def test_a_loss_that_is_no_number_is_named_with_a_remedy(steps: int, remedy: str) -> None:
    check_finite({"facts": {"loss": 1.5}}, steps)
    with pytest.raises(FloatingPointError, match=rf"the loss on facts is nan after {steps} steps; .*{remedy}"):
        check_finite({"base": {"loss": 1.0}, "facts": {"loss": math.nan}}, steps)
