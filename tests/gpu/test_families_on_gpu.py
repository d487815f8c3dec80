"""Every family, two phases on a GPU: in fp32, as on the CPU."""

from typing import Any

import pytest
from family_models import FAMILIES
from family_table import BARE, SFT, measure

from osftx.config.schema import Accelerator

pytestmark = pytest.mark.xdist_group("families")  # one launch trains them all
CASES = [*FAMILIES, BARE, *(f"sft_{family}" for family in SFT)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return measure(tmp_path_factory.mktemp("families"), Accelerator.cuda, ranks=1)


@pytest.mark.parametrize("case", CASES)
def test_a_phase_moves_what_it_should_and_transformers_reads_it(measured: dict[str, dict[str, Any]], case: str) -> None:
    """transformers reads it on the CPU, whose sums have another order."""
    came = measured[case]
    assert came["moved"] > 1e-3, "every target was trained"
    assert came["others_equal"] == (not case.startswith("sft_"))
    assert came["leak_fp32"] <= 1e-5
    assert came["leak_saved"] <= 1e-5
    assert came["same_names"]
    assert came["difference"] <= 1e-4
