"""Every family of the table, two phases on real ranks: trained in free subspaces alone, saved as it was read."""

from typing import Any

import pytest
from family_models import FAMILIES
from family_table import BARE, PLAINLY, SFT, between_markers, measure, table

from osftx.models import targets

Measured = dict[str, dict[str, Any]]
OSFT_CASES = [*FAMILIES, BARE]
SFT_CASES = [f"sft_{family}" for family in SFT]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(tmp_path_factory.mktemp("families"))


def test_every_family_of_the_table_is_tried() -> None:
    assert FAMILIES.keys() == targets.FAMILIES.keys() == PLAINLY.keys()


@pytest.mark.parametrize("case", OSFT_CASES)
def test_a_phase_moves_the_free_directions_of_the_targets_alone(measured: Measured, case: str) -> None:
    came = measured[case]
    assert came["moved"] > 1e-3, "every target was trained"
    assert came["others_equal"]
    assert came["leak_fp32"] <= 1e-5
    assert came["leak_saved"] <= 1e-5


@pytest.mark.parametrize("case", OSFT_CASES + SFT_CASES)
def test_transformers_reads_what_was_trained(measured: Measured, case: str) -> None:
    """Under the names that the source had. The order of sums differs where attention or the layout does."""
    assert measured[case]["same_names"]
    assert measured[case]["difference"] <= 1e-5


@pytest.mark.parametrize("case", SFT_CASES)
def test_plain_fine_tuning_trains_everything_else_too(measured: Measured, case: str) -> None:
    assert not measured[case]["others_equal"]
    assert measured[case]["moved"] > 1e-3


def test_the_table_of_the_docs_is_what_was_measured(measured: Measured) -> None:
    """`python tests/support/family_table.py` writes it anew."""
    assert between_markers() == table(measured)
