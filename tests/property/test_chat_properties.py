"""Loss masks of random conversations against transformers' own."""

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
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from osftx.config.schema import TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import encode_conversation
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError

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
@settings(max_examples=130, deadline=None)
@given(messages=CONVERSATIONS)
def test_mask_equals_that_of_transformers(plain: Tokenizers, name: str, messages: Messages) -> None:
    ours, theirs = plain[name]
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    (sample,) = encode_conversation(ours, Conversation(messages))
    assert (sample.input_ids, sample.counted) == transformers_sample(theirs, messages[: last + 1])


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=130, deadline=None)
@given(data=st.data())
def test_each_turn_is_counted_once_as_the_model_writes_it(styled: Tokenizers, name: str, data: st.DataObject) -> None:
    """What transformers marks last in the conversation up to a turn, behind what it gives the model to write it."""
    ours, theirs = styled[name]
    conversation = data.draw(conversations(STYLES[name]))
    messages, tools = conversation.messages, conversation.tools
    texts, expected = [], []
    for i in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
        ids, mask = transformers_sample(theirs, messages[: i + 1], tools)
        start, stop = runs(mask)[-1]
        texts.append((ids, runs(mask)))
        expected.append((start, ids[:stop]))
        prompt = theirs.apply_chat_template(messages[:i], tools, add_generation_prompt=True, return_dict=False)
        if not theirs.decode(ids[start]).isspace():  # one token may hold white space of the prompt and of the answer
            assert ids[:start] == prompt

    samples = encode_conversation(ours, conversation)

    counted = [(start, sample.input_ids[:stop]) for sample in samples for start, stop in runs(sample.counted)]
    assert sorted(counted) == sorted(expected)
    for sample in samples:  # each is the text up to a turn, of which it counts at least the last
        (marked,) = [marked for ids, marked in texts if ids == sample.input_ids]
        assert set(runs(sample.counted)) <= set(marked)
        assert runs(sample.counted)[-1] == marked[-1]
    (last,) = encode_conversation(ours, conversation, TrainOn.last_assistant)
    assert (last.input_ids, runs(last.counted)) == (texts[-1][0], texts[-1][1][-1:])


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_all_but_system_adds_the_contents_of_the_others(styled: Tokenizers, name: str, data: st.DataObject) -> None:
    """Once each, in order; what it counts of the assistant is what it counts without them."""
    tokenizer = styled[name][0]
    conversation = data.draw(conversations(STYLES[name]))
    of_assistant = encode_conversation(tokenizer, conversation)
    try:
        of_all = encode_conversation(tokenizer, conversation, TrainOn.all_but_system)
    except ConversationError as error:
        assert "one token holds both" in str(error)
        assume(False)
    others = []
    for less, more in zip(of_assistant, of_all, strict=True):
        assert more.input_ids == less.input_ids
        kept = [b for a, b in zip(less.counted, more.counted, strict=True) if a]
        assert all(kept)
        added = [b and not a for a, b in zip(less.counted, more.counted, strict=True)]
        others += [tokenizer.decode(more.input_ids[start:stop]).strip() for start, stop in runs(added)]
    contents = [m["content"].strip() for m in conversation.messages if m["role"] in ("user", "tool")]
    if name != "mistral":  # which writes the results of tools as JSON
        assert others == contents
