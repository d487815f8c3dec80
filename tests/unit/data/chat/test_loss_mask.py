"""The loss mask, token by token: against transformers' own, and against what each case means."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_family import (
    CHATML,
    LLAMA3,
    PHI,
    PLAIN,
    STYLES,
    runs,
    save_tokenizer,
    train_metaspace_tokenizer,
    transformers_sample,
)
from tokenizers import AddedToken, Tokenizer, processors
from transformers import AutoTokenizer

from osftx.config.schema import TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import EncodedConversation, encode_conversation, encode_document
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError

SYSTEM = {"role": "system", "content": "Be brief."}


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


CONVERSATIONS = {
    "one turn": [user("What is 1 + 1?"), assistant("2")],
    "system": [SYSTEM, user("What is 1 + 1?"), assistant("2")],
    "turns": [SYSTEM, user("1"), assistant("I."), user("2"), assistant("II."), user("3"), assistant("3")],
    "ends with a question": [user("1"), assistant("One."), user("2")],
    "two answers in a row": [user("1"), assistant("One."), assistant("Eins.")],
    "answer first": [assistant("Hello!"), user("Hi."), assistant("So?")],
    "white space at the edges": [user(" a "), assistant("  Paris. \n\n"), user("\nb"), assistant("\n\tx\n")],
    "characters of several bytes": [user("😀"), assistant("👩‍👩‍👧東京"), user("é"), assistant("e\u0301 é")],
    "the template's words": [user("assistant"), assistant("end"), user("<|im_"), assistant("|>")],
    "special tokens in the content": [
        user("<|im_end|>\n<|im_start|>assistant\n"),
        assistant("a<|im_end|><|end|>\n<|eot_id|>b"),
        assistant("c<|endoftext|>"),
    ],
}  # fmt: skip


def encode_one(tokenizer: ChatTokenizer, messages: list[dict[str, Any]]) -> EncodedConversation:
    """The sample of a conversation that needs no more than one."""
    (sample,) = encode_conversation(tokenizer, Conversation(messages))
    return sample


def counted_runs(tokenizer: ChatTokenizer, sample: EncodedConversation) -> list[str]:
    """The text of each unbroken run of counted tokens."""
    return [tokenizer.decode(sample.input_ids[start:stop]) for start, stop in runs(sample.counted)]


def counted_text(tokenizer: ChatTokenizer, messages: list[dict[str, Any]]) -> list[str]:
    return counted_runs(tokenizer, encode_one(tokenizer, messages))


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_mask_equals_the_generation_marks_of_transformers(folder: Path, messages: list[dict[str, str]]) -> None:
    sample = encode_one(ChatTokenizer.load(str(folder)), messages)
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    theirs = transformers_sample(AutoTokenizer.from_pretrained(folder), messages[: last + 1])
    assert (sample.input_ids, sample.counted) == theirs
    assert any(sample.counted)


def test_white_space_before_the_answer_is_counted(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template(PLAIN.replace(" | trim", ""))
    messages = [user("1"), assistant("\t One. \n"), user("2"), assistant("  Two.")]
    assert counted_text(tokenizer, messages) == ["\t One.", "  Two."]


def test_every_token_of_a_conversation(chatml: ChatTokenizer) -> None:
    sample = encode_one(chatml, [SYSTEM, user("a"), assistant("b"), user("c"), assistant("d")])
    tokens = [chatml.decode([token_id]) for token_id in sample.input_ids]
    first_counted = [i for i, counted in enumerate(sample.counted) if counted]
    assert [(tokens[i], tokens[i + 1]) for i in first_counted[::2]] == [
        ("b", "<|im_end|>"),
        ("d", "<|im_end|>"),
    ]
    assert len(first_counted) == 4
    assert "".join(tokens) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", [" One. \n<|im_end|>", "Two.<|im_end|>"]),
        ("llama3", ["One.<|eot_id|>", "Two.<|eot_id|>"]),
        ("phi", [" One. \n<|end|>", "Two.<|end|>"]),
        ("default_system", [" One. \n<|im_end|>", "Two.<|im_end|>"]),
        ("trimming", ["One.<|im_end|>", "Two.<|im_end|>"]),
        ("plain", ["One.", "Two."]),
    ],
)
def test_counted_text(folders: dict[str, Path], name: str, expected: list[str]) -> None:
    tokenizer = ChatTokenizer.load(str(folders[name]))
    assert counted_text(tokenizer, [user("1"), assistant(" One. \n"), user("2"), assistant("Two.")]) == expected


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_generation_marks_are_not_needed(folder: Path, tmp_path: Path, messages: list[dict[str, str]]) -> None:
    """Nor does it matter that a tokenizer trims its offsets, as that of Llama 3 does."""
    marked = ChatTokenizer.load(str(folder))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    template = (folder / "chat_template.jinja").read_text()
    for mark in ("{%- generation %}", "{% generation %}", "{% endgeneration %}"):
        template = template.replace(mark, mark.replace("endgeneration", "endif").replace("generation", "if true"))
    bare = ChatTokenizer.load(str(save_tokenizer(tmp_path, tokenizer, template)))
    assert encode_one(bare, messages) == encode_one(marked, messages)


def test_special_tokens_that_swallow_white_space(bpe: Tokenizer, tmp_path: Path) -> None:
    """Phi's special tokens take in the white space behind them: it is no token of the answer."""
    content = json.loads(bpe.to_str())
    for token in content["added_tokens"]:
        token["rstrip"] = True
    tokenizer = ChatTokenizer.load(str(save_tokenizer(tmp_path, Tokenizer.from_str(json.dumps(content)), PHI)))
    messages = [user("1"), assistant("  One."), user("2"), assistant("Two.")]
    sample = encode_one(tokenizer, messages)
    tokens = [tokenizer.decode([token_id]) for token_id in sample.input_ids]
    assert "\n" not in tokens
    assert counted_text(tokenizer, messages) == ["One.<|end|>", "Two.<|end|>"]


def test_token_that_holds_white_space_of_template_and_content(
    with_template: Callable[[str], ChatTokenizer],
) -> None:
    tokenizer = with_template(
        CHATML.replace("assistant\\n", "assistant\\n\\n").replace("role + '\\n'", "role + '\\n\\n'")
    )
    tokenizer._tokenizer.add_tokens([AddedToken("\n\n\n", normalized=False)])
    assert counted_text(tokenizer, [user("1"), assistant("\nOne.")]) == ["\n\n\nOne.<|im_end|>"]


def test_token_that_holds_text_of_template_and_content_is_refused(
    with_template: Callable[[str], ChatTokenizer],
) -> None:
    tokenizer = with_template(CHATML)
    tokenizer._tokenizer.add_tokens([AddedToken("assistant\nOne", normalized=False)])
    with pytest.raises(ConversationError, match=r"message 2: one token holds both .*'assistant\\n' of the template"):
        encode_one(tokenizer, [user("1"), assistant("One.")])


def test_head_and_tail_that_the_template_writes_itself(with_template: Callable[[str], ChatTokenizer]) -> None:
    """What stands between the generation prompt and the end-of-turn token is the model's to write."""
    answer = "'<think>\\n\\n</think>\\n\\n' + message.content + '</answer><|im_end|>'"
    tokenizer = with_template(CHATML.replace("message.content + '<|im_end|>' }}{% end", answer + " }}{% end"))
    for content in ("One.", "think", "<", "end"):
        expected = [f"<think>\n\n</think>\n\n{content}</answer><|im_end|>"]
        assert counted_text(tokenizer, [user("1"), assistant(content)]) == expected


ONE_TURN = [user("1"), assistant("One.")]
TWO_TURNS = [*ONE_TURN, user("2"), assistant("Two.")]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # Cohere closes the answer, and then the turn.
        (CHATML.replace("<|im_end|>", "<|end|><|user|>"), ["One.<|end|><|user|>", "Two.<|end|><|user|>"]),
        # The end-of-sequence token ends every turn ...
        (CHATML.replace("<|im_end|>", "<|endoftext|>"), ["One.<|endoftext|>", "Two.<|endoftext|>"]),
        # ... or closes the text after the tokens that end its last turn.
        (PHI.replace("{{'\\n'}}", "").replace("<|end|>\\n", "<|end|>"), ["One.<|end|>", "Two.<|end|>"]),
        # It may be the second of two that end each turn.
        (
            CHATML.replace("<|im_end|>", "<|end|><|endoftext|>").replace("{{ '\\n' }}", ""),
            ["One.<|end|><|endoftext|>", "Two.<|end|><|endoftext|>"],
        ),
    ],
    ids=["two end tokens", "eos in each turn", "eos after the last turn", "eos and another in each turn"],
)  # fmt: skip
def test_end_of_turn(with_template: Callable[[str], ChatTokenizer], template: str, expected: list[str]) -> None:
    tokenizer = with_template(template)
    assert counted_text(tokenizer, TWO_TURNS) == expected
    assert counted_text(tokenizer, ONE_TURN) == [expected[1].replace("Two", "One")]
    assert counted_text(tokenizer, TWO_TURNS[:3]) == expected[:1]


def test_end_of_turn_that_only_the_last_one_has(with_template: Callable[[str], ChatTokenizer]) -> None:
    """Each turn gets a sample that it ends, or nothing would teach the model to stop."""
    tokenizer = with_template(PLAIN + "{{ eos_token if not add_generation_prompt }}")
    samples = encode_conversation(tokenizer, Conversation(TWO_TURNS))
    assert [counted_runs(tokenizer, sample) for sample in samples] == [
        ["Two.\n\n<|endoftext|>"],
        ["One.\n\n<|endoftext|>"],
    ]


DROPS_REASONING = CHATML.replace(
    "{{ message.content + '<|im_end|>' }}{% end",
    "{{ (message.content if loop.last else message.content.split('</think>')[-1]) + '<|im_end|>' }}{% end",
)


def test_generation_prompt_that_closes_the_reasoning(with_template: Callable[[str], ChatTokenizer]) -> None:
    """The model is not to write what it is given; a turn that lacks it, as those before the last do, is no example."""
    template = CHATML.replace(
        "assistant\\n' }}{%- endif -%}", "assistant\\n<think>\\n\\n</think>\\n\\n' }}{%- endif -%}"
    )
    tokenizer = with_template(
        template.replace(
            "{{ message.content + '<|im_end|>' }}{% end",
            "{{ '<think>\\n\\n</think>\\n\\n' if loop.last }}{{ message.content + '<|im_end|>' }}{% end",
        )
    )
    samples = encode_conversation(tokenizer, Conversation(TWO_TURNS))
    assert [counted_runs(tokenizer, sample) for sample in samples] == [["Two.<|im_end|>"], ["One.<|im_end|>"]]
    with pytest.raises(ConversationError, match=r"message 2: .* \(then behind '.*<think>"):
        encode_conversation(with_template(template), Conversation(TWO_TURNS))


def test_template_that_rewrites_earlier_turns(with_template: Callable[[str], ChatTokenizer]) -> None:
    """Turns that a later text does not show as they were written get a sample that does."""
    tokenizer = with_template(DROPS_REASONING)
    thinking = assistant("<think>Hm.</think>One.")
    whole, first = encode_conversation(
        tokenizer, Conversation([user("1"), thinking, user("2"), assistant("Two."), user("3")])
    )
    assert tokenizer.decode(whole.input_ids) == (
        "<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\nOne.<|im_end|>\n"
        "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\nTwo.<|im_end|>\n"
    )
    assert counted_runs(tokenizer, whole) == ["Two.<|im_end|>"]
    assert tokenizer.decode(first.input_ids) == (
        "<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\n<think>Hm.</think>One.<|im_end|>\n"
    )
    assert counted_runs(tokenizer, first) == ["<think>Hm.</think>One.<|im_end|>"]
    assert counted_text(tokenizer, [user("1"), assistant("One."), user("2"), thinking]) == [
        "One.<|im_end|>",
        "<think>Hm.</think>One.<|im_end|>",
    ]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHATML.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>model\\n' }}"), "otherwise than"),
        (CHATML.replace("assistant\\n' }}", "assistant\\n<think>' }}"), "otherwise than"),
        (CHATML.replace("{{ message.content + '<|im_end|>' }}{% end", "{{ 'x' }}{% end"), "as it stands"),
        (CHATML + "{{ messages | length if not add_generation_prompt }}", "writes '2' behind the end of"),
        (CHATML.replace("{{ '\\n' }}", "{{ 'Bye.' }}"), "writes 'Bye.' behind the end of the turn"),
        ("{% if messages | length % 2 %}{{ raise_exception('odd') }}{% endif %}" + CHATML, "refuses .*: odd"),
    ],
)  # fmt: skip
def test_template_without_a_certain_mask_is_refused(
    with_template: Callable[[str], ChatTokenizer], template: str, message: str
) -> None:
    with pytest.raises(ConversationError, match=message):
        encode_conversation(with_template(template), Conversation(TWO_TURNS))


def test_llama3_begins_with_one_bos(folders: dict[str, Path]) -> None:
    tokenizer = ChatTokenizer.load(str(folders["llama3"]))
    ids = encode_one(tokenizer, [user("1"), assistant("One.")]).input_ids
    assert LLAMA3.startswith("{{- bos_token")
    assert [tokenizer.decode([i]) for i in ids].count("<|begin_of_text|>") == 1


@pytest.fixture(scope="module")
def styles(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    root = tmp_path_factory.mktemp("styles")
    return {
        name: ChatTokenizer.load(str(save_tokenizer(root / name, bpe, style.template, **style.config)))
        for name, style in STYLES.items()
    }


TURNS = [SYSTEM, user(" 1 "), assistant("One."), user("2"), assistant("Two."), user("3")]


def left_out(messages: list[dict[str, Any]], *indices: int) -> list[dict[str, Any]]:
    return [{**message, "train": i not in indices} for i, message in enumerate(messages)]


@pytest.mark.parametrize(
    ("messages", "train_on", "expected"),
    [
        (TURNS, "assistant", ["One.<|im_end|>", "Two.<|im_end|>"]),
        (left_out(TURNS), "assistant", ["One.<|im_end|>", "Two.<|im_end|>"]),
        (left_out(TURNS, 2), "assistant", ["Two.<|im_end|>"]),
        (left_out(TURNS, 4), "assistant", ["One.<|im_end|>"]),
        (TURNS, "last_assistant", ["Two.<|im_end|>"]),
        (left_out(TURNS, 1, 2), "last_assistant", ["Two.<|im_end|>"]),
        (TURNS, "all_but_system", ["1", "One.<|im_end|>", "2", "Two.<|im_end|>", "3"]),
        (left_out(TURNS, 0, 1, 4), "all_but_system", ["One.<|im_end|>", "2", "3"]),
        (
            TURNS[:3],
            "everything",
            ["system\nBe brief.<|im_end|>\n<|im_start|>user\n 1 <|im_end|>\n<|im_start|>assistant\nOne.<|im_end|>\n"],
        ),
        (
            left_out(TURNS[:3], 0, 2),
            "everything",
            ["system\n", "<|im_end|>\n<|im_start|>user\n 1 <|im_end|>\n<|im_start|>assistant\n", "\n"],
        ),
    ],
)  # fmt: skip
def test_train_on(chatml: ChatTokenizer, messages: list[dict[str, Any]], train_on: str, expected: list[str]) -> None:
    (sample,) = encode_conversation(chatml, Conversation(messages), TrainOn(train_on))
    assert [run.strip(" ") for run in counted_runs(chatml, sample)] == [run.strip(" ") for run in expected]


def test_the_template_does_not_see_what_is_trained_on(with_template: Callable[[str], ChatTokenizer]) -> None:
    refuses = "{% if messages | selectattr('train', 'defined') | list %}{{ raise_exception('seen') }}{% endif %}"
    tokenizer = with_template(refuses + CHATML)
    assert counted_text(tokenizer, left_out(TWO_TURNS, 1)) == ["Two.<|im_end|>"]


@pytest.mark.parametrize(
    ("messages", "train_on"),
    [
        (left_out(TURNS, 2, 4), "assistant"),
        (left_out(TURNS, 4), "last_assistant"),
        ([user("1")], "assistant"),
        ([SYSTEM], "all_but_system"),
        (left_out(TURNS, *range(len(TURNS))), "everything"),
        (left_out([{"role": "pretraining", "content": "a"}], 0), "assistant"),
    ],
)
def test_nothing_to_train_on_is_refused(chatml: ChatTokenizer, messages: list[dict[str, Any]], train_on: str) -> None:
    with pytest.raises(ConversationError, match=f"no message is trained on .train_on={train_on}."):
        encode_conversation(chatml, Conversation(messages), TrainOn(train_on))


def test_rewritten_turns_with_other_roles(with_template: Callable[[str], ChatTokenizer]) -> None:
    """What is not the assistant's is counted once, in the longest sample; no text holds everything."""
    tokenizer = with_template(DROPS_REASONING)
    messages = [user("1"), assistant("<think>Hm.</think>One."), user("2"), assistant("Two.")]
    samples = encode_conversation(tokenizer, Conversation(messages), TrainOn.all_but_system)
    assert [counted_runs(tokenizer, sample) for sample in samples] == [
        ["1", "2", "Two.<|im_end|>"],
        ["<think>Hm.</think>One.<|im_end|>"],
    ]
    with pytest.raises(ConversationError, match=r"message 2: the chat template rewrites .* use train_on=all_but_sys"):
        encode_conversation(tokenizer, Conversation(messages), TrainOn.everything)


TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds."}}]


def call(name: str, arguments: object) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*tool_calls: dict[str, Any], **keys: object) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(tool_calls), **keys}


def tool(content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, "name": "add", "tool_call_id": "1"}


WITH_TOOLS = Conversation(
    [user("1 + 1, 2 + 2?"), calls(call("add", {"a": 1, "b": "é"}), call("add", {})), tool("2"), tool('"4"'),
     assistant("2 and 4.")],
    TOOLS,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "qwen2.5",
            [
                '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é"}}\n</tool_call>\n'
                '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call><|im_end|>',
                "2 and 4.<|im_end|>",
            ],
        ),
        (
            "mistral",
            [
                '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": "é"}}, {"name": "add", "arguments": {}}]</s>',
                " 2 and 4.</s>",
            ],
        ),
        (
            "granite",
            [
                '<|tool_call|>{"name": "add", "arguments": {"a": 1, "b": "é"}}'
                '<|tool_call|>{"name": "add", "arguments": {}}<|end_of_text|>',
                "2 and 4.<|end_of_text|>",
            ],
        ),
    ],
)
def test_tool_calls(styles: dict[str, ChatTokenizer], name: str, expected: list[str]) -> None:
    """A turn that calls tools is counted as the template writes it, special tokens included; results are not."""
    conversation = WITH_TOOLS
    if name == "granite":  # it writes no null
        conversation = Conversation([{**m, "content": m["content"] or ""} for m in WITH_TOOLS.messages], TOOLS)
    (sample,) = encode_conversation(styles[name], conversation)
    assert counted_runs(styles[name], sample) == expected


def test_tool_results_that_are_merged_into_one_turn(styles: dict[str, ChatTokenizer]) -> None:
    (sample,) = encode_conversation(styles["qwen2.5"], WITH_TOOLS, TrainOn.all_but_system)
    runs_of_others = counted_runs(styles["qwen2.5"], sample)
    assert [runs_of_others[i] for i in (0, 2, 3)] == ["1 + 1, 2 + 2?", "2", '"4"']


def test_tools_that_move_make_a_sample_of_each_question(styles: dict[str, ChatTokenizer]) -> None:
    messages = [user("1?"), assistant("1"), user("2?"), assistant("2")]
    samples = encode_conversation(styles["mistral"], Conversation(messages, TOOLS))
    assert [counted_runs(styles["mistral"], sample) for sample in samples] == [[" 2</s>"], [" 1</s>"]]
    assert len(encode_conversation(styles["mistral"], Conversation(messages))) == 1


def test_reasoning_belongs_to_its_turn(styles: dict[str, ChatTokenizer]) -> None:
    """In each sample, what the model writes after the last question before it."""
    messages = [
        user("1?"), {**assistant("1"), "reasoning_content": "Hm."},
        user("2?"), calls(call("add", {}), reasoning_content="Add."), tool("2"),
        {**assistant("2"), "reasoning_content": "So."},
    ]  # fmt: skip
    samples = encode_conversation(styles["qwen3"], Conversation(messages, TOOLS))
    assert [counted_runs(styles["qwen3"], sample) for sample in samples] == [
        [
            '<think>\nAdd.\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call><|im_end|>',
            "<think>\nSo.\n</think>\n\n2<|im_end|>",
        ],
        ["<think>\nHm.\n</think>\n\n1<|im_end|>"],
    ]


@pytest.mark.parametrize(
    ("name", "messages", "tools", "reason"),
    [
        ("llama3", [user("1"), {**assistant("One."), "reasoning_content": "Hm."}], None, "write reasoning_content"),
        ("llama3", [user("1"), {**assistant("Hm."), "reasoning_content": "Hm."}], None, "write reasoning_content"),
        ("llama3", [user("1"), calls(call("add", {}), content="One.")], None, "message 2: .* not write tool_calls"),
        ("llama3", [user("1"), calls(call("One", {}), content="One.")], None, "message 2: .* not write tool_calls"),
        ("harmony", [user("1"), calls(call("add", {"a": 1}), call("add", {"a": 1}))], TOOLS, "not write tool_calls"),
        ("mistral", [user("1"), calls(call("add", {}), content="I add.")], TOOLS, "message 2: .* not write content"),
        ("mistral", [user("1"), calls(call("add", {}), content="add")], TOOLS, "message 2: .* not write content"),
        ("qwen2.5", [user("1"), calls(call("add", "a=1"))], TOOLS, "arguments of add as a quoted text"),
        ("qwen2.5", [user("1"), calls(call("add", "[1]"))], TOOLS, "arguments of add as a quoted text"),
        ("llama3", [user("1"), calls({"id": "1"}, content="x")], None, "2: a tool call has no function with a name"),
        ("llama3", [user("1"), assistant("One.")], TOOLS, "the chat template does not write the tools"),
        ("gemma", [SYSTEM, user("1"), assistant("One.")], None, "refuses the conversation: roles must alternate"),
    ],
)  # fmt: skip
def test_what_a_template_leaves_out_is_refused(
    styles: dict[str, ChatTokenizer],
    name: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    reason: str,
) -> None:
    with pytest.raises(ConversationError, match=reason):
        encode_conversation(styles[name], Conversation(messages, tools))


def test_calls_that_end_with_no_special_token_are_refused(with_template: Callable[[str], ChatTokenizer]) -> None:
    calling = (
        "{{ message.tool_calls[0].function.name if message.tool_calls else message.content + '<|im_end|>' }}{% end"
    )
    tokenizer = with_template(CHATML.replace("{{ message.content + '<|im_end|>' }}{% end", calling))
    with pytest.raises(ConversationError, match=r"message 2: .* ends this turn with 'add', and others with a special"):
        encode_conversation(tokenizer, Conversation([user("1"), calls(call("add", {}))]))


@pytest.mark.parametrize(
    ("role", "messages"),
    [
        ("content", [user("1"), assistant("<think>Hm.</think>One.")]),
        (r"content .user.", [user("<think>Hm.</think>1"), assistant("One.")]),
        ("tool_calls", [user("1"), calls(call("add", {"a": ["</think>"]}), content="")]),
    ],
)
def test_contents_of_which_a_part_is_left_out(
    with_template: Callable[[str], ChatTokenizer], role: str, messages: list[dict[str, Any]]
) -> None:
    cuts = CHATML.replace("message.content", "(message.content or message.tool_calls | tojson).split('</think>')[-1]")
    with pytest.raises(ConversationError, match=f"the chat template does not write {role} as it stands"):
        encode_conversation(with_template(cuts), Conversation(messages))


def test_messages_of_others_that_are_left_out(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template(CHATML.replace("in messages -%}", "in messages if message.role != 'tool' -%}"))
    with pytest.raises(ConversationError, match=r"message 2: .* does not write content \(tool\)"):
        encode_conversation(tokenizer, Conversation([user("1"), tool("2"), assistant("2")]))


def test_content_as_json(with_template: Callable[[str], ChatTokenizer]) -> None:
    """The model is to write the JSON; a text of somebody else ends where its JSON does."""
    tokenizer = with_template(CHATML.replace("message.content", "message.content | tojson"))
    messages = [user("a\nb"), assistant('é "c"')]
    assert counted_text(tokenizer, messages) == ['"é \\"c\\""<|im_end|>']
    (sample,) = encode_conversation(tokenizer, Conversation(messages), TrainOn.all_but_system)
    assert counted_runs(tokenizer, sample) == ["a\\nb", '"é \\"c\\""<|im_end|>']


def test_a_template_that_writes_another_text_each_time_is_refused(
    with_template: Callable[[str], ChatTokenizer],
) -> None:
    number = "(range(99999) | random)"
    tokenizer = with_template(
        CHATML.replace("{% generation %}{{ message.content", f"{{{{ message.content ~ {number} ~ {number}").replace(
            "{% endgeneration %}", ""
        )
    )
    with pytest.raises(
        ConversationError, match=r"message 2: the chat template writes this turn, .* otherwise each time"
    ):
        encode_conversation(tokenizer, Conversation([user("1"), assistant("One.")]))


def test_content_whose_place_is_not_certain_is_refused(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template(CHATML + "{{ messages[0].content }}")
    with pytest.raises(ConversationError, match="does not show where the content of these messages stands: 1"):
        encode_conversation(tokenizer, Conversation([user("1")]), TrainOn.all_but_system)


def test_pretraining_turns_are_documents(chatml: ChatTokenizer) -> None:
    texts = ["<|im_end|> One.\n", "Two"]
    messages = [{"role": "pretraining", "content": text} for text in texts]
    samples = encode_conversation(chatml, Conversation(messages))
    assert samples == [encode_document(chatml, text) for text in texts]
    assert [chatml.decode(sample.input_ids) for sample in samples] == [f"{text}<|endoftext|>" for text in texts]
    assert all(all(sample.counted) for sample in samples)
    with pytest.raises(ConversationError, match="pretraining stand beside others"):
        encode_conversation(chatml, Conversation([SYSTEM, *messages]))


def test_document_without_a_token_to_close_it(bpe: Tokenizer, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.load(str(save_tokenizer(tmp_path, bpe, CHATML, eos_token=None)))
    with pytest.raises(ConversationError, match="no end-of-sequence token"):
        encode_document(tokenizer, "a")


@pytest.mark.parametrize("name", STYLES)
def test_tokens_with_the_space_before_them(name: str, tmp_path: Path) -> None:
    """A SentencePiece-like tokenizer, with bytes for what it does not know."""
    style = STYLES[name]
    folder = save_tokenizer(tmp_path, train_metaspace_tokenizer(), style.template, **style.config)
    messages = [user("The 東京?"), assistant("東京 is  the é."), user("a"), assistant(" b\n")]
    samples = encode_conversation(ChatTokenizer.load(str(folder)), Conversation(messages))
    theirs = AutoTokenizer.from_pretrained(folder)
    ids, mask = transformers_sample(theirs, messages)
    assert samples[0].input_ids == ids
    assert runs(samples[0].counted) == runs(mask)[-len(runs(samples[0].counted)) :]
    assert sum(len(runs(sample.counted)) for sample in samples) == 2
