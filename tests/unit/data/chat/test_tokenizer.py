"""ChatTokenizer against transformers' AutoTokenizer, and what it says about folders it cannot use."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chat_family import CHATML, PLAIN, save_tokenizer
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from osftx.data.chat import built_tokenizer
from osftx.data.chat.built_tokenizer import BuiltTokenizer
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError
from osftx.errors import ConfigurationError

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Où est la gare ?\n"},
    {"role": "assistant", "content": "\n東京タワー 😀 <|im_end|> <b>&amp;</b>  "},
    {"role": "user", "content": "1 + 1 = 2"},
]

BUILT = BuiltTokenizer("{}", {"eos_token": "<|im_end|>"}, False)

# Everything that transformers adds to Jinja2, in one template.
DIALECT = """\
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- continue %}
    {%- endif %}
    {% if message.role == 'assistant' %}
    <{{ message | tojson }}{{ {'b': 'é<', 'a': 1} | tojson(indent=2) }}>
    {% endif %}
    {% if loop.index > 3 %}
        {%- break %}
    {% endif %}
{% generation %}
{% set seen = 'inside' %}{{ seen }}
{% endgeneration %}
{{ seen is defined }}{{ strftime_now('%Y') }}{{ tools is none }}{{ documents is none }}
{%- endfor %}
{%- set ns = namespace(found=false) %}{% set ns.found = true %}{{ ns.found }}
{{- bos_token }}{{ eos_token }}{{ pad_token }}{{ sep_token }}{{ '!' if add_generation_prompt }}
"""


def test_text_and_ids_equal_those_of_transformers(folder: Path) -> None:
    ours, theirs = ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder)
    for length in range(1, len(CONVERSATION) + 1):
        for prompt in (False, True):
            messages = CONVERSATION[:length]
            text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            ids = theirs.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
            assert ours.render(messages, add_generation_prompt=prompt) == text
            assert ours.encode(text)[0] == ids
            assert ours.decode(ids) == theirs.decode(ids) == text


def test_attributes_equal_those_of_transformers(folder: Path) -> None:
    ours, theirs = ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder)
    assert (ours.eos_token, ours.eos_token_id) == (theirs.eos_token, theirs.eos_token_id)
    assert ours.vocab_size == len(theirs)
    assert ours.special_token_ids == {i for i, token in theirs.added_tokens_decoder.items() if token.special}


def test_template_dialect_equals_that_of_transformers(bpe: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tmp_path, bpe, DIALECT, pad_token="<|end|>")
    ours, theirs = ChatTokenizer.load(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    for prompt in (False, True):
        text = theirs.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=prompt)
        assert ours.render(CONVERSATION, add_generation_prompt=prompt) == text
    assert str(datetime.now().year) in text
    assert "é" in text


def test_settings_and_tokens_of_the_configuration(tmp_path: Path, bpe: Tokenizer) -> None:
    """Saved truncation and padding are ignored; tokens that only the configuration names are added."""
    tokenizer = Tokenizer.from_str(bpe.to_str())
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=512)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]),
        ]
    )
    size = tokenizer.get_vocab_size()
    extra = AddedToken("<tool>", special=False, normalized=False)
    save_tokenizer(
        tmp_path,
        tokenizer,
        CHATML + "<tool>{{ pad_token }}",
        eos_token={"content": "<|im_end|>", "__type": "AddedToken", "lstrip": False},
        pad_token="<pad>",
        add_bos_token=True,
        added_tokens_decoder={
            str(size): {
                "content": extra.content,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": False,
            }
        },
    )
    ours, theirs = ChatTokenizer.load(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    text = ours.render(CONVERSATION)
    ids, offsets = ours.encode(text)
    assert text.endswith("<tool><pad>")
    assert ids == theirs.apply_chat_template(CONVERSATION, return_dict=False)
    assert ids[-2:] == [size, size + 1]
    assert ours.vocab_size == len(theirs) == size + 2
    assert size not in ours.special_token_ids
    assert size + 1 in ours.special_token_ids
    assert ours.eos_token_id == theirs.eos_token_id == bpe.token_to_id("<|im_end|>")
    assert {i for start, end in offsets for i in range(start, end)} == set(range(len(text))), "none left out"


def _equals_transformers(folder: Path) -> ChatTokenizer:
    ours, theirs = ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder)
    text = theirs.apply_chat_template(CONVERSATION, tokenize=False)
    assert ours.render(CONVERSATION) == text
    assert ours.encode(text)[0] == theirs.apply_chat_template(CONVERSATION, return_dict=False)
    assert (ours.eos_token, ours.eos_token_id) == (theirs.eos_token, theirs.eos_token_id)
    assert ours.vocab_size == len(theirs)
    return ours


@pytest.mark.process
@pytest.mark.parametrize(
    "settings",
    [{"extra_special_tokens": ["<b>"]}, {"additional_special_tokens": ["<b>"]}, {"split_special_tokens": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_special_tokens_that_only_the_configuration_has(
    tmp_path: Path, bpe: Tokenizer, settings: dict[str, Any]
) -> None:
    tokenizer = _equals_transformers(save_tokenizer(tmp_path, bpe, CHATML, **settings))
    assert ("<b>" in [tokenizer.decode([token]) for token in tokenizer.special_token_ids]) == (
        "split_special_tokens" not in settings
    )


@pytest.mark.process
def test_a_class_that_brings_defaults_and_rebuilds_the_tokenizer(tmp_path: Path, bpe: Tokenizer) -> None:
    """Transformers takes GPT-2's end-of-sequence token, which no file names, and GPT-2's own splitting of words."""
    save_tokenizer(tmp_path, bpe, "{{ bos_token }}" + CHATML)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert _equals_transformers(tmp_path).eos_token == "<|endoftext|>"


@pytest.mark.process
def test_tokens_of_the_older_file_of_added_tokens(tmp_path: Path, bpe: Tokenizer) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)
    size = bpe.get_vocab_size()
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size}))
    assert size in _equals_transformers(tmp_path).encode("<b>")[0]


@pytest.mark.process
def test_a_tokenizer_that_needs_code_of_its_own_is_refused(tmp_path: Path, bpe: Tokenizer) -> None:
    own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    save_tokenizer(tmp_path, bpe, CHATML, **own)
    assert "cannot build the tokenizer" in _problem(str(tmp_path))


LLAMA = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 300}


@pytest.mark.process
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_key_value_heads": "2"}, "expected int, got str"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "Missing required keys in `rope_parameters`"),
        ({"rope_parameters": {"rope_type": "madeup", "rope_theta": 1e4}}, "rope_type='madeup', which must be one of "),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor='2' of the rotary positions, which must be a "),
    ],
)
def test_a_config_that_transformers_cannot_use_is_no_fault_of_the_tokenizer(
    tmp_path: Path, bpe: Tokenizer, wrong: dict[str, Any], says: str
) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | wrong))
    problem = _problem(str(tmp_path))
    assert problem.startswith(f"{tmp_path / 'config.json'}: transformers ")
    assert says in problem
    assert problem.endswith("; correct it, or download or save the model again")


@pytest.mark.process
@pytest.mark.parametrize("config", [LLAMA, {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}])
def test_a_config_that_is_right_or_not_known_changes_nothing(
    tmp_path: Path, bpe: Tokenizer, config: dict[str, Any]
) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert _equals_transformers(tmp_path).encode("1")[0]


@pytest.mark.process
def test_a_program_that_crashes_is_told(tmp_path: Path, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_tokenizer, "PROGRAM", "no_such_program")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    problem = _problem(str(save_tokenizer(tmp_path / "a", bpe, CHATML)))
    assert "cannot build the tokenizer (the process that builds it ended with 1: " in problem
    assert "no_such_program" in problem
    monkeypatch.setattr(built_tokenizer, "TIME_LIMIT", 0.001)
    assert "not done after 0.001 s" in _problem(str(tmp_path / "a"))


def test_what_was_built_is_kept(tmp_path: Path, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads the same files again waits for no process; other files, and a damaged copy, are built anew."""
    runs = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(built_tokenizer, "_build", lambda folder: runs.append(folder) or BUILT)
    folder = save_tokenizer(tmp_path / "a", bpe, CHATML)
    assert [built_tokenizer.built_tokenizer(folder) for _ in range(2)] == [BUILT, BUILT]
    assert len(runs) == 1
    (kept,) = (tmp_path / "cache").rglob("*.json")
    kept.write_text("{")
    built_tokenizer.built_tokenizer(folder)
    (folder / "added_tokens.json").write_text("{}")
    built_tokenizer.built_tokenizer(folder)
    assert len(runs) == 3


@pytest.mark.process
@pytest.mark.parametrize(
    ("around", "text", "own"),
    [
        ("<s> $A", "x = 1", ["<s>", "...", "<|endoftext|>"]),
        ("<s> $A", "<s>x = 1<|endoftext|>", ["<s>", "...", "<|endoftext|>"]),
        ("<s> $A <|endoftext|>", "x = 1", ["<s>", "...", "<|endoftext|>"]),
        ("<s> $A <|endoftext|>", "x = 1<|endoftext|>", ["<s>", "...", "<|endoftext|>"]),
        ("$A <|end|>", "x = 1", ["...", "<|end|>", "<|endoftext|>"]),
        ("$A", "x = 1", ["...", "<|endoftext|>"]),
    ],
)
def test_a_document_has_what_the_tokenizer_adds_once(
    tmp_path: Path, bpe: Tokenizer, around: str, text: str, own: list[str]
) -> None:
    """The tokenizer's own beginning and end, as in transformers, and the end-of-sequence token once."""
    tokens = [(name, bpe.token_to_id(name)) for name in ("<s>", "<|endoftext|>", "<|end|>")]
    opening = Tokenizer.from_str(bpe.to_str())
    opening.post_processor = processors.TemplateProcessing(single=around, pair=f"{around} $B", special_tokens=tokens)
    folder = save_tokenizer(tmp_path, opening, CHATML)
    expected = [bpe.token_to_id(name) for name in own if name != "..."]
    place = own.index("...")
    expected[place:place] = bpe.encode("x = 1", add_special_tokens=False).ids
    assert ChatTokenizer.load(str(folder)).encode_document(text) == expected
    theirs = AutoTokenizer.from_pretrained(folder)("x = 1")["input_ids"]
    assert expected[: len(theirs)] == theirs


@pytest.mark.process
def test_a_word_that_the_vocabulary_cannot_write(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="none"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = save_tokenizer(tmp_path, words, None)
    assert "WordLevel error: Missing [UNK] token" in _problem(str(folder))


def _splitting_at(pattern: str, folder: Path, bpe: Tokenizer) -> str:
    save_tokenizer(folder, bpe, CHATML)
    content = json.loads((folder / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return str(folder)


@pytest.mark.process
@pytest.mark.parametrize(
    ("pattern", "says"), [("(", "(Exception: "), ("(a+)+b", "(PanicException: Onig: Regex search error: retry-limit")]
)
def test_regular_expressions_that_are_none_or_run_away(tmp_path: Path, bpe: Tokenizer, pattern: str, says: str) -> None:
    assert f"cannot build the tokenizer {says}" in _problem(_splitting_at(pattern, tmp_path, bpe))


@pytest.mark.process
def test_a_regular_expression_that_runs_away_on_one_text(tmp_path: Path, bpe: Tokenizer) -> None:
    tokenizer = ChatTokenizer.load(_splitting_at("(x+)+y", tmp_path, bpe))
    tokenizer.encode("x")
    for call in (tokenizer.encode, tokenizer.encode_document):
        with pytest.raises(ConversationError, match=r"the tokenizer fails on this text \(Onig.*\); correct its"):
            call("x" * 100)


def test_legacy_special_tokens_map(tmp_path: Path, bpe: Tokenizer) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}))
    ours, theirs = ChatTokenizer.load(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.eos_token == theirs.eos_token == "<|end|>"


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": CHATML},
        {
            "chat_template": [
                {"name": "tool_use", "template": PLAIN},
                {"name": "default", "template": CHATML},
            ]
        },
    ],
)
def test_template_of_the_configuration(tmp_path: Path, bpe: Tokenizer, config: dict[str, object]) -> None:
    save_tokenizer(tmp_path, bpe, None, **config)
    assert ChatTokenizer.load(str(tmp_path)).render(CONVERSATION).startswith("<|im_start|>system\n")
    (tmp_path / "chat_template.jinja").write_text(PLAIN)
    assert ChatTokenizer.load(str(tmp_path)).render(CONVERSATION).startswith("### system:\n")


TOOLS = [{"type": "function", "function": {"name": "é", "description": "<b>"}}]
SHOWS_ALL = "{{ messages | tojson }}{{ tools | tojson(indent=2) }}{{ tools is none }}"


def test_tools_and_messages_reach_the_template_as_in_transformers(tmp_path: Path, bpe: Tokenizer) -> None:
    save_tokenizer(tmp_path, bpe, SHOWS_ALL)
    ours, theirs = ChatTokenizer.load(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    call = {"type": "function", "id": None, "function": {"name": "é", "arguments": {"a": None, "b": "1"}}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm.", "name": "x"},
        {"role": "tool", "content": "2", "tool_call_id": "1", "tool_calls": None, "reasoning_content": None},
    ]
    for tools in (None, [], TOOLS):
        text = theirs.apply_chat_template(messages, tools=tools, tokenize=False)
        assert ours.render(messages, tools) == text
    assert '"thinking": "Hm."' in text


def test_template_for_tools(tmp_path: Path, bpe: Tokenizer) -> None:
    """In the configuration, or in a file of its own, as `save_pretrained` of old and of today writes it."""
    templates = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": SHOWS_ALL}]
    old = save_tokenizer(tmp_path / "old", bpe, None, chat_template=templates)
    AutoTokenizer.from_pretrained(old).save_pretrained(tmp_path / "new")
    assert (tmp_path / "new" / "additional_chat_templates" / "tool_use.jinja").read_text() == SHOWS_ALL
    for folder in (old, tmp_path / "new"):
        ours, theirs = ChatTokenizer.load(str(folder)), AutoTokenizer.from_pretrained(folder)
        for tools in (None, [], TOOLS):
            text = theirs.apply_chat_template(CONVERSATION, tools=tools, tokenize=False)
            assert ours.render(CONVERSATION, tools) == text


def test_template_of_the_legacy_file(tmp_path: Path, bpe: Tokenizer) -> None:
    save_tokenizer(tmp_path, bpe, None)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": PLAIN}))
    assert ChatTokenizer.load(str(tmp_path)).render(CONVERSATION).startswith("### system:\n")


def test_what_a_template_refuses_is_a_reason(with_template: Callable[[str], ChatTokenizer]) -> None:
    tokenizer = with_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ConversationError, match="roles must alternate"):
        tokenizer.render(CONVERSATION)
    tokenizer = with_template("{{ messages[99]['role']['x'] }}")
    with pytest.raises(ConversationError, match="refuses the conversation"):
        tokenizer.render(CONVERSATION)


def test_template_is_sandboxed(with_template: Callable[[str], ChatTokenizer]) -> None:
    for source in ("{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}"):
        with pytest.raises(ConversationError, match=r"unsafe|not safely"):
            with_template(source).render(CONVERSATION)


def test_fingerprint_is_of_the_contents(tmp_path: Path, bpe: Tokenizer) -> None:
    folder = save_tokenizer(tmp_path / "a", bpe, CHATML)
    same = shutil.copytree(folder, tmp_path / "b")
    (same / "model.safetensors").write_text("no part of the tokenizer")
    other = save_tokenizer(tmp_path / "c", bpe, CHATML + " ")
    fingerprints = [ChatTokenizer.load(str(path)).fingerprint for path in (folder, same, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 59, 59)
DATED = "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}"


def test_the_moment_is_that_of_loading_also_in_another_process(tmp_path: Path, bpe: Tokenizer) -> None:
    tokenizer = ChatTokenizer.load(str(save_tokenizer(tmp_path, bpe, DATED)), now=NEW_YEARS_EVE)
    for one in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        assert one.render(CONVERSATION) == "2026-12-31 23:59:59"
        assert one.fingerprint == tokenizer.fingerprint


def _problem(path: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ChatTokenizer.load(path)
    (problem,) = caught.value.problems
    assert path in problem
    assert "\n" not in problem
    return problem


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    problem = _problem(str(tmp_path))
    assert "holds no tokenizer.json" in problem
    assert "save_pretrained" in problem


def test_folder_without_chat_template(tmp_path: Path, bpe: Tokenizer) -> None:
    """Texts it can turn into tokens all the same."""
    save_tokenizer(tmp_path, bpe, None)
    tokenizer = ChatTokenizer.load(str(tmp_path))
    assert not tokenizer.renders
    assert tokenizer.decode(tokenizer.encode("x = 1")[0]) == "x = 1"
    with pytest.raises(ConfigurationError) as caught:
        tokenizer.render([{"role": "user", "content": "1"}])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}: no chat template")
    assert "instruction-tuned" in problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "version https://git-lfs.github.com/spec/v1", "is not JSON"),
        ("tokenizer.json", "{}", "has no `model`"),
        (
            "tokenizer.json",
            '{"model": {"type": "Future"}, "added_tokens": []}',
            "cannot build the tokenizer (Exception: ",
        ),
        ("tokenizer_config.json", "[]", "must be a JSON object"),
        ("tokenizer_config.json", "[" * 99999, "is not JSON"),
        ("tokenizer.json", '{"model": ' + "[" * 99999, "cannot build the tokenizer (RecursionError: "),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"1": "<x>"}}', "cannot build the tokenizer (TypeError: "),
        ("chat_template.jinja", "{% for x in %}", "not valid Jinja2 (line 1"),
        ("chat_template.jinja", "Größe", "template.jinja: is not UTF-8 text (invalid start byte at byte 3); save"),
        ("additional_chat_templates/tool_use.jinja", "ß", "tool_use.jinja: is not UTF-8 text (unexpected end of data"),
    ],
)
def test_broken_files(tmp_path: Path, bpe: Tokenizer, name: str, content: str, message: str) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content, encoding="latin-1")
    assert message in _problem(str(tmp_path))


@pytest.mark.parametrize(
    "templates",
    [
        [{"name": "tool_use", "template": CHATML}],
        [{"nam": "default", "template": CHATML}],
        [{"name": "default"}],
        [{"name": ["default"], "template": CHATML}],
        [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": 1}],
        [CHATML],
        {"default": CHATML},
    ],
)
def test_named_templates_that_are_none(tmp_path: Path, bpe: Tokenizer, templates: object) -> None:
    save_tokenizer(tmp_path, bpe, None, chat_template=templates)
    problem = _problem(str(tmp_path))
    assert problem.startswith(f"{tmp_path / 'tokenizer_config.json'}: chat_template must be a text, or a list of obj")


@pytest.mark.parametrize(
    ("closed", "says"),
    [("", "neither a local folder nor a name on the Hugging Face Hub"), ("tokenizer.json", "holds no tokenizer.json")],
)
def test_a_folder_that_nobody_may_look_into(
    tmp_path: Path, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch, closed: str, says: str
) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)
    look = os.stat

    def stat(path: Any, *args: Any, **settings: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path / closed)):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *args, **settings)

    monkeypatch.setattr(os, "stat", stat)
    assert says in _problem(str(tmp_path))


def test_a_file_that_nobody_may_read(tmp_path: Path, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tokenizer(tmp_path, bpe, CHATML)

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert _problem(str(tmp_path)).startswith(
        f"{tmp_path / 'tokenizer.json'}: cannot be read (Permission denied); make"
    )


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache of the Hub, and no way to the Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_hub_name_from_the_local_cache(offline_hub: Path, bpe: Tokenizer) -> None:
    repository = offline_hub / "models--org--model"
    save_tokenizer(repository / "snapshots" / "c0ffee", bpe, CHATML)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    assert "<|im_start|>" in ChatTokenizer.load("org/model").render(CONVERSATION)
    with pytest.raises(ConfigurationError, match=r"org/model \(revision v2\): no such local folder"):
        ChatTokenizer.load("org/model", revision="v2")


@pytest.mark.usefixtures("offline_hub")
def test_hub_that_cannot_be_reached() -> None:
    problem = _problem("org/unknown")
    assert "not in the local Hub cache" in problem
    assert re.search(r"\(OfflineModeIsEnabled: .+\)", problem)


def test_neither_folder_nor_hub_name() -> None:
    assert "neither a local folder nor a name" in _problem("/no/such/folder/anywhere")


@pytest.mark.process
def test_data_modules_import_neither_torch_nor_transformers(folders: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data.write_text(json.dumps({"messages": turns}) + "\n")
    program = f"""
import sys
import osftx.data.packing
from pathlib import Path
from osftx.config.schema import DataConfig
from osftx.data.prepare import prepare
from osftx.data.samples import load_samples, sample_lengths
from osftx.data.chat.tokenizer import ChatTokenizer
tokenizer = ChatTokenizer.load({str(folders["chatml"])!r})
data = DataConfig(path={str(data)!r})
prepare(data, tokenizer, 100, None)
assert "datasets" not in sys.modules
folder, *_ = prepare(data, tokenizer, 100, Path({str(tmp_path)!r}))
assert len(load_samples(folder)) == len(sample_lengths(load_samples(folder))) == 1
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
