"""The one figure of a task that stands in the table."""

import pytest

from osftx.evaluation.lm_eval.metrics import main_metric


@pytest.mark.parametrize(
    ("figures", "chosen"),
    [
        ({"alias": "t", "acc,none": 0.5, "acc_stderr,none": 0.1, "acc_norm,none": 0.6}, ("acc_norm", 0.6)),
        ({"acc,none": 0.5, "exact_match,none": 1}, ("exact_match", 1.0)),
        (
            {"exact_match,strict-match": 0.2, "exact_match,flexible-extract": 0.4},
            ("exact_match,strict-match", 0.2),
        ),
        ({"sample_len": 9, "bleu,none": 12.0, "rouge,none": 3.0}, ("bleu", 12.0)),
        ({"name": "g", "acc,none": 0.25, "acc_stderr,none": "N/A"}, ("acc", 0.25)),
    ],
)
def test_the_preferred_metric_else_the_first(figures: dict[str, object], chosen: tuple[str, float]) -> None:
    assert main_metric(figures) == chosen


def test_no_figure_and_no_number_are_told() -> None:
    with pytest.raises(ValueError, match="gave no metric"):
        main_metric({"alias": "group", "sample_len": 3})
    with pytest.raises(ValueError, match="its word_perplexity is nan"):
        main_metric({"word_perplexity,none": float("nan")})
