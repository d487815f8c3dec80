"""Where generation stops, by the files of a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from osftx.models.stop_tokens import stop_tokens, with_stop_tokens


def folder(place: Path, config: dict[str, Any], generation: dict[str, Any] | None) -> Path:
    (place / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (place / "generation_config.json").write_text(json.dumps(generation))
    return place


@pytest.mark.parametrize(
    ("config", "generation", "found"),
    [
        ({"eos_token_id": 1}, {"eos_token_id": 2}, ("generation_config.json", [2])),
        ({"eos_token_id": 1}, {"eos_token_id": [2, 3]}, ("generation_config.json", [2, 3])),
        ({"eos_token_id": 1}, {"max_length": 9}, ("generation_config.json", [])),
        ({"eos_token_id": 1}, None, ("config.json", [1])),
        ({"eos_token_id": [1, 2]}, None, ("config.json", [1, 2])),
        ({"text_config": {"eos_token_id": 1}}, None, ("config.json", [1])),
        ({}, None, (None, [])),
    ],
)
def test_the_file_that_decides(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None, found: tuple[str | None, list[int]]
) -> None:
    assert stop_tokens(folder(tmp_path, config, generation)) == found


@pytest.mark.parametrize(
    ("config", "generation", "written"),
    [
        ({}, {"eos_token_id": 2, "max_length": 9}, {"eos_token_id": [2, 7], "max_length": 9}),
        ({}, {"eos_token_id": [2, 7]}, {"eos_token_id": [2, 7]}),
        ({"eos_token_id": 1}, {}, {"eos_token_id": 7}),
        ({"eos_token_id": 1, "bos_token_id": 3}, None, {"eos_token_id": [1, 7], "bos_token_id": 3}),
    ],
)
def test_further_stop_tokens_stand_behind_the_models_own(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None, written: dict[str, Any]
) -> None:
    assert with_stop_tokens(folder(tmp_path, config, generation), [7]) == written
