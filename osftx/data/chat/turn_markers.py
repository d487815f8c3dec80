"""Finds the added tokens with which a chat template marks turns although the tokenizer does not call them special.

DeepSeek's `<｜User｜>` is one. A content must not be able to write it, as it must not write a special token.
"""

import re
from collections.abc import Callable, Collection
from itertools import takewhile
from typing import Any

PARTS = {"system": "Be brief.", "user": "Which day is it?", "assistant": "It is Monday."}
"""Contents of the conversation that shows what a template writes by itself."""

Render = Callable[[list[dict[str, Any]], bool], str]
"""Returns the text of messages, with the generation prompt if the flag is set. Raises ValueError if it cannot."""


def turn_markers(render: Render, added: Collection[str]) -> set[str]:
    """Returns those of the added tokens that the template writes outside of contents and of the assistant's answer.

    Words and white space are no markers, since contents hold them. Neither are markers of reasoning such as `<think>`,
    which an assistant writes itself.
    """
    possible = sorted(filter(_can_mark, added), key=len, reverse=True)
    if not possible:
        return set()
    marker = re.compile("|".join(map(re.escape, possible)))
    return set(marker.findall("\n".join([*_own_text(render, ["system"]), *_own_text(render, [])])))


def _can_mark(token: str) -> bool:
    enclosed = len(token) > 2 and not any(one.isalnum() or one.isspace() for one in (token[0], token[-1]))
    return enclosed and any(map(str.isalnum, token)) and re.search(r"think|thought|reason", token, re.I) is None


def _own_text(render: Render, before: list[str]) -> list[str]:
    """Returns the pieces of text around the contents: none if the template refuses the conversation.

    What stands before the answer counts only as far as the generation prompt has it, too: the rest is an answer's own.
    """
    asked = [{"role": role, "content": PARTS[role]} for role in [*before, "user"]]
    answered = [*asked, {"role": "assistant", "content": PARTS["assistant"]}]
    try:
        text = render([*answered, asked[-1]], False)
        pairs = zip(text, render(asked, True), strict=False)
        opening = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    except ValueError:
        return []
    behind = text[max(len(opening), text.rfind(PARTS["assistant"])) :]
    pieces = re.compile("|".join(map(re.escape, PARTS.values())))
    return [*pieces.split(opening), *pieces.split(behind)]
