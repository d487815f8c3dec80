"""The three figures on matrices that are worked out by hand: rows are states, columns are sets."""

import pytest

from osftx.results.retention import FIGURES, METRICS, summary, table

BASE, FIRST, SECOND, THIRD = range(4)


def test_the_figures_by_hand() -> None:
    """Columns: a set the base knows, one taught in each of three phases."""
    accuracy = [
        [0.90, 0.10, 0.00, 0.20],
        [0.80, 0.95, 0.05, 0.20],
        [0.85, 0.70, 0.60, 0.10],
        [0.75, 0.80, 0.50, 1.00],
    ]
    figures = summary(accuracy, [BASE, FIRST, SECOND, THIRD])
    # The last row: (0.75 + 0.80 + 0.50 + 1.00) / 4 = 3.05 / 4
    assert figures["average_accuracy"] == pytest.approx(0.7625)
    # Each phase's set in its own row, the base's set left out: (0.95 + 0.60 + 1.00) / 3
    assert figures["learning_accuracy"] == pytest.approx(0.85)
    # The last row less the row that taught the set; the last set was taught by the last phase and is left out:
    # ((0.75 - 0.90) + (0.80 - 0.95) + (0.50 - 0.60)) / 3 = -0.40 / 3
    assert figures["backward_transfer"] == pytest.approx(-0.4 / 3)
    # The best from the teaching row to the last but one, less the last row:
    # ((0.90 - 0.75) + (0.95 - 0.80) + (0.60 - 0.50)) / 3 = 0.40 / 3
    assert figures["forgetting"] == pytest.approx(0.4 / 3)


def test_forgetting_counts_from_the_best_state_after_teaching_backward_transfer_from_the_teaching() -> None:
    """Set 0 is best in row 2 and set 1's best row, 0, was before it was taught, so it does not count."""
    accuracy = [
        [0.50, 0.90],
        [0.40, 0.30],
        [0.70, 0.35],
        [0.60, 0.20],
    ]
    figures = summary(accuracy, [BASE, FIRST])
    # ((0.70 - 0.60) + (0.35 - 0.20)) / 2 = 0.25 / 2
    assert figures["forgetting"] == pytest.approx(0.125)
    # ((0.60 - 0.50) + (0.20 - 0.30)) / 2 = 0
    assert figures["backward_transfer"] == pytest.approx(0.0)
    assert figures["average_accuracy"] == pytest.approx(0.4)


def test_a_set_never_better_than_at_the_end_has_negative_forgetting() -> None:
    figures = summary([[0.2], [0.3], [0.5]], [BASE])
    assert figures["forgetting"] == pytest.approx(0.3 - 0.5)
    assert figures["backward_transfer"] == pytest.approx(0.5 - 0.2)


def test_after_one_phase_only_what_the_base_knew_can_be_forgotten() -> None:
    figures = summary([[0.9, 0.1], [0.6, 0.8]], [BASE, FIRST])
    assert figures == {
        "average_accuracy": pytest.approx(0.7),
        "learning_accuracy": pytest.approx(0.8),
        "forgetting": pytest.approx(0.3),
        "backward_transfer": pytest.approx(-0.3),
    }


def test_sets_that_are_all_taught_in_the_last_phase_have_nothing_to_forget() -> None:
    figures = summary([[0.1, 0.2], [0.8, 0.4]], [FIRST, FIRST])
    assert figures == {
        "average_accuracy": pytest.approx(0.6),
        "learning_accuracy": pytest.approx(0.6),
        "forgetting": None,
        "backward_transfer": None,
    }


def test_without_a_phase_that_taught_a_set_nothing_was_learned() -> None:
    assert summary([[0.5], [0.4]], [BASE])["learning_accuracy"] is None


@pytest.mark.parametrize("accuracy", [[], [[], []]], ids=["no state", "no set"])
def test_without_sets_there_is_no_figure(accuracy: list[list[float]]) -> None:
    assert summary(accuracy, []) == dict.fromkeys(FIGURES)


def test_the_table_has_states_as_rows_and_sets_as_columns() -> None:
    def measured(value: float) -> dict[str, float]:
        return {metric: value + place / 100 for place, metric in enumerate(METRICS)} | {"samples": 3}

    retention = table(
        ["base", "one"],
        ["x", "y", "z"],
        {
            "one": {"z": measured(5), "y": measured(4), "x": measured(3)},
            "base": {"x": measured(0), "y": measured(1), "z": measured(2)},
        },
    )
    assert retention == {
        "sets": ["x", "y", "z"],
        "states": ["base", "one"],
        "metrics": {
            "exact_match": [[0.00, 1.00, 2.00], [3.00, 4.00, 5.00]],
            "loss": [[0.01, 1.01, 2.01], [3.01, 4.01, 5.01]],
            "token_accuracy": [[0.02, 1.02, 2.02], [3.02, 4.02, 5.02]],
        },
    }
