"""Templates that are broken or hostile: each comes to an end with one reason that names the template."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import GOOD, refused

from osftx.config.schema import DataConfig
from osftx.data import encoding
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError
from osftx.data.prepare import prepare
from osftx.errors import ConfigurationError

WithTemplate = Callable[[str], ChatTokenizer]
SPACE = "{% set ns = namespace(s=messages[0].content) %}"

FAILS = {
    "range": ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError: Range too big"),
    "recursion": ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "RecursionError"),
    "division": ("{{ 1 / (messages | length - 2) }}", "ZeroDivisionError: division by zero"),
    "modulo": ("{{ 1 % 0 }}", "ZeroDivisionError"),
    "a long text": ("{{ messages[0].content * 10**10 }}", r"OverflowError: the result of \* is too long"),
    "a long list": ("{{ [1] * 10**10 }}", r"OverflowError: the result of \* is too long"),
    "a long number": ("{{ 10 ** (10 ** 10) }}", r"OverflowError: the result of \*\* is too long"),
    "squares": (f"{SPACE}{{% set ns.s = 3 %}}{{% for i in range(99) %}}{{% set ns.s = ns.s * ns.s %}}{{% endfor %}}",
                r"OverflowError: the result of \* is too long"),
    "doubled": (f"{SPACE}{{% for i in range(99) %}}{{% set ns.s = ns.s ~ ns.s %}}{{% endfor %}}", "MemoryError"),
    "wide": ("{{ messages[0].content | center(10**11) }}", "MemoryError"),
    "wide constant": ("{{ 'x' | center(100000000000) }}", "MemoryError"),
    "much text": ("{{ 'x' * 60000000 }}{{ 'x' * 60000000 }}", "it writes 120,000,000 characters, more than 67,108,864"),
    "nothing there": ("{{ messages[0].a.b }}", "has no attribute 'a'"),
    "infinity": ("{{ (1e308 * 10) | int }}", "OverflowError: cannot convert float infinity"),
    "its own words": ("{{ raise_exception('y' * 999) }}", r"y{300}\.\.\. \(template of"),
    "random text": ("{{ lipsum(n=10**9) }}", "'lipsum' is undefined"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
def test_a_template_that_fails(with_template: WithTemplate, name: str) -> None:
    source, cause = FAILS[name]
    with pytest.raises(ConversationError, match=rf"the chat template refuses the conversation: .*{cause}") as caught:
        with_template(source).render(GOOD)
    assert "(template of /" in str(caught.value)


ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "slices": "{{ [1] | slice(10**10) | list }}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_does_not_end(
    with_template: WithTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(encoding, "ROW_SECONDS", 0.2)
    monkeypatch.setattr(encoding, "SECONDS_PER_MESSAGE", 0)
    data = tmp_path / "data.jsonl"
    data.write_text(f"{json.dumps({'messages': GOOD})}\n" * 99)
    (problem,) = refused(with_template(ENDLESS[name]), tmp_path / "prepared", str(data))
    assert problem.startswith(
        f"{data}:1: the chat template of {tmp_path / 'tokenizer'} does not come to an end with it"
    )


def test_the_error_comes_whole_from_another_process() -> None:
    error = ConfigurationError(["a: one", "b: two"])
    assert pickle.loads(pickle.dumps(error)).problems == ["a: one", "b: two"]


def test_a_template_that_is_nested_too_deeply(with_template: WithTemplate) -> None:
    with pytest.raises(ConfigurationError, match=r"is not valid Jinja2 \(line 1: it cannot be compiled, Recursion"):
        with_template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")


@pytest.mark.parametrize("depth", [500, 900, 960, 990, 2000, 20_000])
def test_arguments_that_are_nested(with_template: WithTemplate, tmp_path: Path, depth: int) -> None:
    """They are read, or told as any other row that cannot be used."""
    call = {"function": {"name": "f", "arguments": "DEEP"}}
    row = json.dumps({"messages": [GOOD[0], {"role": "assistant", "content": None, "tool_calls": [call]}]})
    data = tmp_path / "data.jsonl"
    data.write_text(row.replace('"DEEP"', '{"a":' * depth + "1" + "}" * depth))
    source = "{% for m in messages %}{{ m | tojson }}{% endfor %}"
    try:
        prepare(DataConfig(path=str(data)), with_template(source), 9999, None)
        assert depth < 1000
    except ConfigurationError as error:
        (problem,) = error.problems
        assert problem.startswith(f"{data}:1: ")
        assert "nested too deeply" in problem or "RecursionError" in problem
