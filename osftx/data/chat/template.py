"""Chat templates: Jinja2 in a sandbox, with the names that Hugging Face templates rely on.

The rendered text must equal that of transformers' `apply_chat_template`, because the model was trained on that text and
is served with it. Semantics: https://huggingface.co/docs/transformers/chat_templating_writing
"""

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from osftx.utils.limits import MemoryLimit, time_limit

COMPILING_SECONDS = 10.0
EXTRA_BYTES = 1 << 31
"""Memory that a template may take beside what the process has: 2 GiB, more than the longest row needs."""
MAX_CHARACTERS = 1 << 26
"""Maximum length of a rendered text, and of what one multiplication makes."""
MAX_BITS = 1 << 16
"""Maximum length of a number that one multiplication makes."""
MAX_CAUSE = 300
"""Maximum length in characters of a template's own error message."""


class GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant writes; it renders as its body.

    The loss mask does not read these marks, since few published templates have them (see `chat`).
    """

    tags = {"generation"}  # noqa: RUF012 (the type that jinja2 declares)

    def parse(self, parser: Parser) -> nodes.Node:
        """Returns the body in its own scope: names that are `set` inside the block are not visible after it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class RenderingError(ValueError):
    """Raised if a template refuses what it is given, or fails on it; the message is the cause."""


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with multiplications that make nothing of a length that only a broken template asks for."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.memory_limit = MemoryLimit(EXTRA_BYTES)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Returns the result of an intercepted operator. Raises OverflowError if it would be too long."""
        if _is_too_long(operator, left, right):
            raise OverflowError(f"the result of {operator} is too long")
        return super().call_binop(context, operator, left, right)


def _is_too_long(operator: str, left: Any, right: Any) -> bool:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 0) if operator == "**" else left.bit_length() + right.bit_length()
        return bits > MAX_BITS
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if operator == "*" and isinstance(times, int) and hasattr(repeated, "__len__"):
        return len(repeated) * times > MAX_CHARACTERS
    return False


def render(template: Template, **names: Any) -> str:
    """Returns the text of a template.

    Raises:
        RenderingError: the template raises an error, of whatever kind, or writes more than MAX_CHARACTERS.
    """
    try:
        with template.environment.memory_limit:  # type: ignore[attr-defined]
            text = template.render(**names)
    except (TemplateError, TypeError, ValueError) as error:
        raise RenderingError(_shortened(str(error))) from error
    except Exception as error:  # whatever the template's own expressions raise
        raise RenderingError(_shortened(f"{type(error).__name__}: {error}".rstrip(": "))) from error
    if len(text) > MAX_CHARACTERS:
        raise RenderingError(f"it writes {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    return text


def _shortened(cause: str) -> str:
    return cause if len(cause) <= MAX_CAUSE else f"{cause[:MAX_CAUSE]}..."


def compile_template(source: str, now: datetime) -> Template:
    """Compiles a chat template, which sees no Python internals and cannot change its arguments.

    Args:
        source: the template.
        now: the moment that `strftime_now` writes, however often and late the template is rendered.

    Raises:
        jinja2.TemplateSyntaxError: the source is not a Jinja2 template, or cannot be compiled.
    """
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = now.strftime
    environment.globals.pop("lipsum", None)  # a random text of any length
    try:
        with time_limit(COMPILING_SECONDS), environment.memory_limit:
            return environment.from_string(source)
    except TemplateSyntaxError:
        raise
    except Exception as error:  # the compiler computes constants; nesting is limited
        raise TemplateSyntaxError(f"it cannot be compiled, {type(error).__name__}: {error}"[:MAX_CAUSE], 1) from error


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Returns the value as JSON; Jinja2's own filter escapes HTML and sorts the keys, which a prompt must not have."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
