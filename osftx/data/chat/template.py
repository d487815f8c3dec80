"""Chat templates: Jinja2 in a sandbox, with the names that Hugging Face templates rely on.

The rendered text must equal that of transformers' `apply_chat_template`, because the model was trained on that text and
is served with it. Semantics: https://huggingface.co/docs/transformers/chat_templating_writing
"""

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


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


def compile_template(source: str, now: datetime) -> Template:
    """Compiles a chat template, which sees no Python internals and cannot change its arguments.

    Args:
        source: the template.
        now: the moment that `strftime_now` writes, however often and late the template is rendered.

    Raises:
        jinja2.TemplateSyntaxError: the source is not a Jinja2 template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = now.strftime
    return environment.from_string(source)


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
