"""What is better, and which jobs no other one beats."""

import pytest

from osftx.config.objective import Direction, as_list, best, direction, terms, value

MORE, LESS = Direction.maximize, Direction.minimize


@pytest.mark.parametrize(
    ("path", "better"),
    [
        ("summary.average_accuracy", MORE),
        ("summary.learning_accuracy", MORE),
        ("summary.backward_transfer", MORE),
        ("summary.forgetting", LESS),
        ("+0.5*summary.forgetting", LESS),
        ("-summary.forgetting", MORE),
        ("summary.forgetting + 0.1*phases.0.duration_s", LESS),
        ("summary.learning_accuracy - 0.5*summary.forgetting", MORE),
        ("phases.0.duration_s", LESS),
        ("phases.1.preservation.leak_saved", LESS),
        ("retention.metrics.loss.1.0", LESS),
        ("retention.metrics.exact_match.1.0", MORE),
        ("retention.benchmarks.values.1.0", MORE),
        ("retention.generated.values.1.0", MORE),
        ("retention.against_base.kl_to_base.1.0", LESS),
        ("retention.against_base.token_agreement.1.0", MORE),
        ("summary.learning_accuracy - summary.forgetting", MORE),
    ],
)
def test_what_is_better(path: str, better: Direction) -> None:
    assert direction(path) is better


def test_a_sum_that_wants_opposite_things_is_refused() -> None:
    with pytest.raises(ValueError, match="more of one thing and less of another"):
        direction("summary.learning_accuracy + summary.forgetting")


def test_a_weighted_sum() -> None:
    results = {"summary": {"learning_accuracy": 0.9, "forgetting": 0.4, "backward_transfer": None}}
    assert value(results, "summary.learning_accuracy") == 0.9
    assert value(results, "summary.learning_accuracy - 0.5*summary.forgetting") == pytest.approx(0.7)
    assert value(results, " -2e-1 * summary.forgetting+summary.learning_accuracy ") == pytest.approx(0.82)
    assert value(results, "summary.learning_accuracy + summary.backward_transfer") is None


@pytest.mark.parametrize("wrong", ["", "0.5", "a b", "a - ", "a * 2", "2a", "a--b", "a + (b)"])
def test_what_is_no_sum_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="cannot be read from"):
        terms(wrong)


def test_one_path_or_several() -> None:
    assert as_list("summary.forgetting") == ["summary.forgetting"]
    assert as_list(["a", "b"]) == ["a", "b"]


def test_the_best_of_one_objective_and_its_equals() -> None:
    assert best([[0.5], [0.7], [0.7], [0.1]], [MORE]) == [1, 2]
    assert best([[0.5], [0.7], [0.7], [0.1]], [LESS]) == [3]


def test_the_pareto_front() -> None:
    """Learning (more is better) against forgetting (less is better)."""
    values = [[0.9, 0.4], [0.8, 0.1], [0.7, 0.2], [0.9, 0.5], [0.2, 0.0], [0.8, 0.1]]
    assert best(values, [MORE, LESS]) == [0, 1, 4, 5]
    assert best([], [MORE, LESS]) == []
