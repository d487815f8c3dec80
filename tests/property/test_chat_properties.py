"""Loss masks of random conversations against transformers' own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_family import (
    LINES,
    SPECIAL_TOKENS,
    STYLES,
    TEMPLATES,
    Style,
    runs,
    save_tokenizer,
    train_tokenizer,
    transformers_sample,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from osftx.config import TrainOn
from osftx.data.chat import encode_conversation
from osftx.data.conversation import Conversation
from osftx.data.tokenizer import ChatTokenizer

Tokenizers = dict[str, tuple[ChatTokenizer, Any]]
Messages = list[dict[str, Any]]

# Text of any alphabet, with much white space, and pieces of what templates write.
CONTENTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.text(" \n\t.é😀", max_size=5)
    | st.sampled_from([*SPECIAL_TOKENS, "assistant", "end", "### user:\n", "def f(x):\n    return x\n"]),
    min_size=1,
    max_size=6,
).map("".join).filter(str.strip)  # fmt: skip

CONVERSATIONS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": CONTENTS}),
    min_size=1,
    max_size=5,
).filter(lambda messages: any(message["role"] == "assistant" for message in messages))

NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
VALUES = st.recursive(
    CONTENTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
CALLS = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": NAMES, "arguments": st.dictionaries(NAMES, VALUES, max_size=3)}),
    }
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function"), "function": st.fixed_dictionaries({"name": NAMES, "description": CONTENTS})}
    ),
    min_size=1,
    max_size=2,
)


@st.composite
def conversations(draw: st.DrawFn, style: Style) -> Conversation:
    """Questions, each with an answer, before it perhaps calls of tools and their results."""
    tools = draw(TOOLS) if style.tools and draw(st.booleans()) else None
    messages: Messages = []
    if style.system and draw(st.booleans()):
        messages.append({"role": "system", "content": draw(CONTENTS)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(CONTENTS)})
        for _ in range(draw(st.integers(0, 2)) if tools else 0):
            calls = draw(st.lists(CALLS, min_size=1, max_size=style.calls))
            turn = {"role": "assistant", "content": "", "tool_calls": calls}
            if style.text_beside_calls and draw(st.booleans()):
                turn["content"] = draw(CONTENTS)
            messages.append(_with_reasoning(draw, style, turn))
            messages += [{"role": "tool", "content": draw(CONTENTS)} for _ in calls]
        messages.append(_with_reasoning(draw, style, {"role": "assistant", "content": draw(CONTENTS)}))
    return Conversation(messages, tools)


def _with_reasoning(draw: st.DrawFn, style: Style, turn: dict[str, Any]) -> dict[str, Any]:
    return {**turn, "reasoning_content": draw(CONTENTS)} if style.reasoning and draw(st.booleans()) else turn


def _load(root: Path, pieces: str | None, templates: dict[str, tuple[str, dict[str, object]]]) -> Tokenizers:
    """For each template, osftx' tokenizer and transformers'."""
    bpe = train_tokenizer(pieces)
    folders = {
        name: save_tokenizer(root / name, bpe, template, **config) for name, (template, config) in templates.items()
    }
    return {
        name: (ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder))
        for name, folder in folders.items()
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return _load(tmp_path_factory.mktemp("plain"), None, {name: (text, {}) for name, text in TEMPLATES.items()})


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    templates = {name: (style.template, style.config) for name, style in STYLES.items()}
    return _load(tmp_path_factory.mktemp("styled"), LINES, templates)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=100, deadline=None)
@given(messages=CONVERSATIONS)
def test_mask_equals_that_of_transformers(plain: Tokenizers, name: str, messages: Messages) -> None:
    ours, theirs = plain[name]
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    (sample,) = encode_conversation(ours, Conversation(messages))
    assert (sample.input_ids, sample.counted) == transformers_sample(theirs, messages[: last + 1])


def for_each_style(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test on conversations that each style can write."""

    @pytest.mark.parametrize("name", STYLES)
    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def run(styled: Tokenizers, name: str, data: st.DataObject) -> None:
        test(*styled[name], data.draw(conversations(STYLES[name])))

    run.__name__ = test.__name__
    return run


def assistant_turns(messages: Messages) -> list[int]:
    return [i for i, message in enumerate(messages) if message["role"] == "assistant"]


@for_each_style
def test_each_turn_is_counted_once_as_the_model_writes_it(
    ours: ChatTokenizer, theirs: Any, conversation: Conversation
) -> None:
    """What transformers marks last in the conversation up to a turn, with all before it."""
    messages, tools = conversation.messages, conversation.tools
    expected = []
    for i in assistant_turns(messages):
        ids, mask = transformers_sample(theirs, messages[: i + 1], tools)
        start, stop = runs(mask)[-1]
        expected.append((start, ids[:stop]))

        prompt = theirs.apply_chat_template(messages[:i], tools, add_generation_prompt=True, return_dict=False)
        if not theirs.decode(ids[start]).isspace():  # one token may hold white space of the prompt and the answer
            assert ids[:start] == prompt

    samples = encode_conversation(ours, conversation)

    counted = [(start, s.input_ids[:stop]) for s in samples for start, stop in runs(s.counted)]
    assert sorted(counted) == sorted(expected)


@for_each_style
def test_samples_are_texts_of_transformers(ours: ChatTokenizer, theirs: Any, conversation: Conversation) -> None:
    """Each ends with a turn of the assistant; all that is counted is marked there too."""
    messages, tools = conversation.messages, conversation.tools
    texts = [transformers_sample(theirs, messages[: i + 1], tools) for i in assistant_turns(messages)]
    for sample in encode_conversation(ours, conversation):
        (mask,) = [mask for ids, mask in texts if ids == sample.input_ids]
        assert set(runs(sample.counted)) <= set(runs(mask))
        assert runs(sample.counted)[-1] == runs(mask)[-1]
    (last,) = encode_conversation(ours, conversation, TrainOn.last_assistant)
    assert last.input_ids == texts[-1][0]
    assert runs(last.counted) == runs(texts[-1][1])[-1:]
