"""The loss mask, token by token: against transformers' own, and against what each case means."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_family import CHATML, LLAMA3, PHI, PLAIN, save_tokenizer, transformers_sample
from tokenizers import AddedToken, Tokenizer, processors
from transformers import AutoTokenizer

from osftx.data.chat import encode_messages as encode_conversation
from osftx.data.tokenizer import ChatTokenizer, ConversationError

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


def counted_text(tokenizer: ChatTokenizer, messages: list[dict[str, Any]]) -> list[str]:
    """The text of each unbroken run of counted tokens."""
    sample = encode_conversation(tokenizer, messages)
    runs: list[list[int]] = []
    before = False
    for token_id, counted in zip(sample.input_ids, sample.counted, strict=True):
        if counted:
            runs = runs if before else [*runs, []]
            runs[-1].append(token_id)
        before = counted
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_mask_equals_the_generation_marks_of_transformers(folder: Path, messages: list[dict[str, str]]) -> None:
    sample = encode_conversation(ChatTokenizer.load(str(folder)), messages)
    theirs = transformers_sample(AutoTokenizer.from_pretrained(folder), messages)
    assert (sample.input_ids, sample.counted) == theirs
    assert any(sample.counted)


def test_white_space_before_the_answer_is_counted(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template(PLAIN.replace(" | trim", ""))
    messages = [user("1"), assistant("\t One. \n"), user("2"), assistant("  Two.")]
    assert counted_text(tokenizer, messages) == ["\t One.", "  Two."]


def test_every_token_of_a_conversation(chatml: ChatTokenizer) -> None:
    sample = encode_conversation(chatml, [SYSTEM, user("a"), assistant("b"), user("c"), assistant("d")])
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
    assert encode_conversation(bare, messages) == encode_conversation(marked, messages)


def test_special_tokens_that_swallow_white_space(bpe: Tokenizer, tmp_path: Path) -> None:
    """Phi's special tokens take in the white space behind them: it is no token of the answer."""
    content = json.loads(bpe.to_str())
    for token in content["added_tokens"]:
        token["rstrip"] = True
    tokenizer = ChatTokenizer.load(str(save_tokenizer(tmp_path, Tokenizer.from_str(json.dumps(content)), PHI)))
    messages = [user("1"), assistant("  One."), user("2"), assistant("Two.")]
    sample = encode_conversation(tokenizer, messages)
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
        encode_conversation(tokenizer, [user("1"), assistant("One.")])


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
        # ... or closes the text after the tokens that end its last turn ...
        (PHI.replace("{{'\\n'}}", "").replace("<|end|>\\n", "<|end|>"), ["One.<|end|>", "Two.<|end|>"]),
        # ... or is all there is to say that the model is done.
        (PLAIN + "{{ eos_token if not add_generation_prompt }}", ["One.", "Two.\n\n<|endoftext|>"]),
    ],
    ids=["two end tokens", "eos in each turn", "eos after the last turn", "eos alone"],
)  # fmt: skip
def test_end_of_turn(with_template: Callable[[str], ChatTokenizer], template: str, expected: list[str]) -> None:
    tokenizer = with_template(template)
    assert counted_text(tokenizer, TWO_TURNS) == expected
    assert counted_text(tokenizer, ONE_TURN) == [expected[1].replace("Two", "One")]
    assert counted_text(tokenizer, TWO_TURNS[:3]) == expected[:1]


DROPS_REASONING = CHATML.replace(
    "{{ message.content + '<|im_end|>' }}{% end",
    "{{ (message.content if loop.last else message.content.split('</think>')[-1]) + '<|im_end|>' }}{% end",
)


def test_template_that_rewrites_earlier_turns_is_refused(
    with_template: Callable[[str], ChatTokenizer],
) -> None:
    tokenizer = with_template(DROPS_REASONING)
    thinking = assistant("<think>Hm.</think>One.")
    assert counted_text(tokenizer, [user("1"), thinking]) == ["<think>Hm.</think>One.<|im_end|>"]
    assert len(counted_text(tokenizer, [user("1"), assistant("One."), user("2"), thinking])) == 2
    with pytest.raises(ConversationError, match="message 2: the chat template rewrites this turn"):
        encode_conversation(tokenizer, [user("1"), thinking, user("2"), assistant("Two.")])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (CHATML.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>model\\n' }}"), "otherwise than"),
        (CHATML.replace("assistant\\n' }}", "assistant\\n<think>' }}"), "otherwise than"),
        (CHATML.replace("{{ message.content + '<|im_end|>' }}{% end", "{{ 'x' }}{% end"), "as it stands"),
        (CHATML + "{{ messages | length if not add_generation_prompt }}", "message 2: .* rewrites"),
        (CHATML.replace("{{ '\\n' }}", "{{ 'Bye.' }}"), "writes 'Bye.' behind the end of the turn"),
        ("{% if messages | length % 2 %}{{ raise_exception('odd') }}{% endif %}" + CHATML, "refuses .*: odd"),
    ],
)  # fmt: skip
def test_template_without_a_certain_mask_is_refused(
    with_template: Callable[[str], ChatTokenizer], template: str, message: str
) -> None:
    with pytest.raises(ConversationError, match=message):
        encode_conversation(with_template(template), [user("1"), assistant("One."), user("2"), assistant("Two.")])


def test_other_keys_are_refused_unless_null(chatml: ChatTokenizer) -> None:
    answer = {**assistant("One."), "tool_calls": None, "reasoning_content": None}
    plain = [user("1"), assistant("One.")]
    assert encode_conversation(chatml, [user("1"), answer]) == encode_conversation(chatml, plain)
    answer = {**answer, "reasoning_content": "Hm.", "name": "x"}
    with pytest.raises(
        ConversationError, match="message 2 has the keys name, reasoning_content; only role and content"
    ):
        encode_conversation(chatml, [user("1"), answer])


def test_llama3_begins_with_one_bos(folders: dict[str, Path]) -> None:
    tokenizer = ChatTokenizer.load(str(folders["llama3"]))
    ids = encode_conversation(tokenizer, [user("1"), assistant("One.")]).input_ids
    assert LLAMA3.startswith("{{- bos_token")
    assert [tokenizer.decode([i]) for i in ids].count("<|begin_of_text|>") == 1
