"""Sizes of a phase, as far as they are the same for every method."""

from math import prod
from typing import Any

import pytest
from one_layer import NUMBERS, SHAPES, workload

from osftx.methods.sizes import Layer, untied
from osftx.models.files import ModelFiles


def test_the_hand_count_is_of_this_model() -> None:
    assert sum(map(prod, SHAPES.values())) == NUMBERS


@pytest.mark.parametrize("nested", [False, True])
def test_a_tied_head_in_the_files_is_counted_once(nested: bool) -> None:
    def shapes(tied: bool) -> Any:
        config: dict[str, Any] = {"tie_word_embeddings": tied}
        return untied(ModelFiles({"text_config": config} if nested else config, SHAPES))

    assert shapes(False) == SHAPES
    assert set(SHAPES) - set(shapes(True)) == {"lm_head.weight"}


def test_a_layer_counts_each_distinct_input_once() -> None:
    """Written: 512 + 256 + 256 + 512 + 1024 + 1024 + 512; read: 512 by q, k, v, by o, by gate and up; 1024 by down."""
    assert workload(0.25).layers == [Layer(outputs=4096, inputs=3 * 512 + 1024, widest_input=1024)]
