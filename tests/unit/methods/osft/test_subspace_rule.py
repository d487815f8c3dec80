"""How many directions stay frozen, and in how many columns the others are stored."""

from math import floor

import pytest

from osftx.methods.osft.subspace_rule import frozen_rank, stored_columns


@pytest.mark.parametrize(
    ("short_side", "ratio", "frozen"),
    [
        (10, 0.7, 3),  # 10 * (1 - 0.7) is 3.0000000000000004
        (10, 0.9, 1),  # 10 * (1 - 0.9) is 0.9999999999999998
        (100, 0.29, 71),
        (10, 0.0, 10),
        (10, 1.0, 0),
        (1, 0.0, 1),
        (1, 0.5, 0),
        (1, 1.0, 0),
        (7, 0.3, 4),  # floor(4.9)
        (53, 0.1, 47),  # floor(47.7)
        (4096, 0.3, 2867),  # floor(2867.2)
    ],
)
def test_frozen_rank(short_side: int, ratio: float, frozen: int) -> None:
    assert frozen_rank(short_side, ratio) == frozen


def test_frozen_rank_is_exact_for_every_percentage() -> None:
    for short_side in (1, 3, 10, 44, 100, 4096, 14336):
        for percent in range(101):
            assert frozen_rank(short_side, percent / 100) == short_side * (100 - percent) // 100
            assert frozen_rank(short_side, percent / 100) >= floor(short_side * (1 - percent / 100))


@pytest.mark.parametrize(
    ("free_rank", "number_bytes", "columns"),
    [(0, 2, 0), (1, 2, 8), (8, 2, 8), (1229, 2, 1232), (1232, 2, 1232), (0, 4, 0), (1, 4, 1), (1229, 4, 1229)],
)
def test_of_16_bits_columns_are_aligned(free_rank: int, number_bytes: int, columns: int) -> None:
    assert stored_columns(free_rank, number_bytes) == columns
