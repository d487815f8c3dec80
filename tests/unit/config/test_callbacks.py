"""The forms that an entry of `callbacks` may have."""

from typing import Any

import pytest

from osftx.config.callbacks import read_callback
from osftx.config.schema import CallbackConfig


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("my_module.Mine", CallbackConfig("my_module.Mine")),
        ("a.b.c.Mine", CallbackConfig("a.b.c.Mine")),
        ({"path": "m.Mine"}, CallbackConfig("m.Mine")),
        ({"path": "m.Mine", "settings": None}, CallbackConfig("m.Mine")),
        ({"path": "m.Mine", "settings": {"a": [1, None]}}, CallbackConfig("m.Mine", {"a": [1, None]})),
        (CallbackConfig("m.Mine", {"a": 1}), CallbackConfig("m.Mine", {"a": 1})),
    ],
    ids=str,
)
def test_an_entry_is_a_path_alone_or_with_settings(entry: Any, expected: CallbackConfig) -> None:
    assert read_callback(entry) == expected


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (3, "must be an import path such as"),
        (None, "must be an import path such as"),
        (["m.Mine"], "must be an import path such as"),
        ({"settings": {}}, "must be an import path such as"),
        ({"path": "m.Mine", "setings": {}}, "must be an import path such as"),
        ("Mine", "its path Mine must name a module and a class"),
        ("m.", "its path m. must name a module and a class"),
        ("my-module.Mine", "its path my-module.Mine must name a module and a class"),
        ("folder/m.py", "its path folder/m.py must name a module and a class"),
        ({"path": None}, "its path None must name a module and a class"),
        ({"path": "m.Mine", "settings": [1]}, "its settings [1] must be a mapping"),
        ({"path": "m.Mine", "settings": {1: 2}}, "its settings {1: 2} must be a mapping of names"),
    ],
    ids=str,
)
def test_another_form_is_refused(entry: Any, problem: str) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        read_callback(entry)
    assert str(refused.value).startswith(problem)
