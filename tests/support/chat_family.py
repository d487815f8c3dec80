"""Chat templates in the styles of published models, and a small tokenizer to use them with.

They have `{% generation %}` around what the assistant writes: transformers needs it for a loss mask of its
own, which osftx' is compared with.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]", "<bos>", "<start_of_turn>", "<end_of_turn>", "<|start_of_role|>", "<|end_of_role|>",
    "<|end_of_text|>", "<|tool_call|>", "<|/tool_call|>", "<|tool|>", "<|/tool|>", "<think>", "</think>",
    "<tool_call>", "</tool_call>", "<|start|>", "<|channel|>", "<|message|>", "<|call|>", "<|return|>",
)  # fmt: skip

CORPUS = [
    "The quick brown fox jumps over the lazy dog.\n\nThe capital of France is Paris.",
    "def add(a, b):\n    return a + b\n\nassistant user system think end. 1 + 1 = 2, 12 * 12 = 144.",
    "Où est la gare ? Größe, naïve, 東京タワー, привет мир. 😀👩‍👩‍👧",
]

CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ message.content + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# Phi closes the whole text with the end-of-sequence token, which is no turn's own.
PHI = """\
{% for message in messages %}{% if message['role'] == 'assistant' %}{{'<|assistant|>\\n'}}\
{% generation %}{{message['content'] + '<|end|>'}}{% endgeneration %}{{'\\n'}}\
{% else %}{{'<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
"""

DEFAULT_SYSTEM = """\
{%- if not messages or messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
""" + CHATML  # fmt: skip

TRIMMING = CHATML.replace("message.content", "message.content | trim")

# No special token at all: the turn ends where its text does.
PLAIN = """\
{%- for message in messages -%}
{{ '### ' + message.role + ':\\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ message.content | trim }}{% endgeneration %}
{%- else -%}
{{ message.content | trim }}
{%- endif -%}
{{ '\\n\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### assistant:\\n' }}{%- endif -%}
"""

TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "phi": PHI,
    "default_system": DEFAULT_SYSTEM,
    "trimming": TRIMMING,
    "plain": PLAIN,
}


# ChatML with a default system turn, tools in it, and tool results that are merged into one turn of the user.
QWEN25 = """\
{%- set first = messages[0].content if messages[0].role == 'system' else 'You are a helpful assistant.' %}
{{- '<|im_start|>system\\n' + first }}
{%- if tools %}
    {{- '\\n\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n' if message.content or not loop.first }}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or messages[loop.index0 - 1].role != 'tool' }}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {{- '<|im_end|>\\n' if loop.last or messages[loop.index0 + 1].role != 'tool' }}
    {%- elif not (loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

# The same, but reasoning is written only behind the last question; the very last turn always has its tags.
QWEN3 = QWEN25.replace(
    "{{- '<|im_start|>system\\n' + first }}",
    """{%- set ns = namespace(question=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.question = loop.index0 %}{%- endif %}
{%- endfor %}
{{- '<|im_start|>system\\n' + first }}""",
).replace(
    "{{- message.content or '' }}",
    """{%- if loop.index0 > ns.question and (loop.last or message.reasoning_content) %}
            {{- '<think>\\n' + (message.reasoning_content or '').strip() + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content or '' }}""",
)

# Closes the text, not a turn, at once behind the token that ends the turn.
PHI4_MINI = """\
{%- if tools and messages[0].role != 'system' %}
    {{- '<|system|><|tool|>' + (tools | tojson) + '<|/tool|><|end|>' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
        {{- message.content }}
        {%- if message.tool_calls %}
            {{- '<|tool_call|>[' }}
            {%- for call in message.tool_calls %}
                {{- ', ' if not loop.first }}{{- call.function | tojson }}
            {%- endfor %}
            {{- ']<|/tool_call|>' }}
        {%- endif %}
        {{- '<|end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message.content }}
        {{- '<|tool|>' + (tools | tojson) + '<|/tool|>' if tools and message.role == 'system' }}
        {{- '<|end|>' }}
    {%- endif %}
{%- endfor %}
{{- '<|assistant|>' if add_generation_prompt else eos_token }}
"""

# No generation prompt; system message and tools stand before the last question, so that they move.
MISTRAL = """\
{%- set start = 1 if messages[0].role == 'system' else 0 %}
{%- set ns = namespace(question=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.question = loop.index0 %}{%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in messages[start:] %}
    {%- if message.role == 'user' %}
        {%- if loop.index0 + start == ns.question %}
            {{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' if tools }}
            {{- '[INST] ' + (messages[0].content + '\\n\\n' if start else '') + message.content + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message.content + '[/INST]' }}
        {%- endif %}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + (message.content | tojson) + '}[/TOOL_RESULTS]' }}
    {%- elif message.tool_calls %}
        {%- generation %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {{- ', ' if not loop.first }}{{- call.function | tojson }}
        {%- endfor %}
        {{- ']' + eos_token }}
        {%- endgeneration %}
    {%- elif message.role == 'assistant' %}
        {%- generation %}{{- ' ' + message.content | trim + eos_token }}{%- endgeneration %}
    {%- else %}
        {{- raise_exception('the system message must come first') }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) or message.role == 'system' %}
        {{- raise_exception('roles must alternate: user, assistant, ...') }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {{- '<start_of_turn>model\\n' }}
        {%- generation %}{{- message.content | trim + '<end_of_turn>' }}{%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- '<start_of_turn>user\\n' + message.content | trim + '<end_of_turn>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""

# The end-of-sequence token ends every turn; a system turn with the date of today, unless there is one.
GRANITE = """\
{%- if messages[0].role != 'system' %}
    {{- '<|start_of_role|>system<|end_of_role|>Today is ' + strftime_now('%B %d, %Y') + '.<|end_of_text|>\\n' }}
{%- endif %}
{%- if tools %}
    {{- '<|start_of_role|>tools<|end_of_role|>' + (tools | tojson(indent=4)) + '<|end_of_text|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_of_role|>' + message.role + '<|end_of_role|>' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '<|tool_call|>' + (call.function | tojson) }}
        {%- endfor %}
        {{- eos_token }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- message.content + eos_token + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}
"""

# Tokens of their own end a call, the last turn, and an earlier turn, whose reasoning is left out.
HARMONY = """\
{{- '<|start|>system<|message|>' + (tools | tojson if tools else 'No tools.') + '<|end|>' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|start|>assistant' }}
        {%- generation %}
        {%- if message.thinking and (message.tool_calls or loop.last) %}
            {{- '<|channel|>analysis<|message|>' + message.thinking + '<|end|><|start|>assistant' }}
        {%- endif %}
        {%- if message.tool_calls %}
            {{- ' to=' + message.tool_calls[0].function.name + '<|channel|>commentary json<|message|>' }}
            {{- message.tool_calls[0].function.arguments | tojson }}
            {{- '<|call|>' }}
        {%- else %}
            {{- '<|channel|>final<|message|>' + message.content + ('<|return|>' if loop.last else '<|end|>') }}
        {%- endif %}
        {%- endgeneration %}
    {%- else %}
        {{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}
"""


@dataclass(frozen=True)
class Style:
    """A chat template in the style of a published model, and what it can write."""

    template: str
    system: bool = True
    tools: bool = False
    calls: int = 2
    """Tool calls in one turn, at most."""
    text_beside_calls: bool = True
    reasoning: bool = False
    config: dict[str, object] = field(default_factory=dict)


STYLES = {
    "llama3": Style(LLAMA3),
    "phi3": Style(PHI),
    "qwen2.5": Style(QWEN25, tools=True, config={"eos_token": "<|im_end|>"}),
    "qwen3": Style(QWEN3, tools=True, reasoning=True, config={"eos_token": "<|im_end|>"}),
    "phi4_mini": Style(PHI4_MINI, tools=True),
    "mistral": Style(
        MISTRAL, tools=True, text_beside_calls=False, config={"bos_token": "<s>", "eos_token": "</s>"}
    ),
    "gemma": Style(GEMMA, system=False, config={"bos_token": "<bos>", "eos_token": "<end_of_turn>"}),
    "granite": Style(GRANITE, tools=True, config={"eos_token": "<|end_of_text|>"}),
    "harmony": Style(
        HARMONY, tools=True, calls=1, text_beside_calls=False, reasoning=True, config={"eos_token": "<|return|>"}
    ),
}  # fmt: skip


# Newlines are one piece, as in Llama 3 and Qwen: what follows the generation prompt does not split its newlines.
LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+| ?[^\s\p{L}\p{N}]+[\r\n]*| ?\p{L}+|\p{N}{1,3}"


def train_tokenizer(pieces: str | None = None) -> Tokenizer:
    """A byte-level BPE with the special tokens of all the templates, over pieces as in GPT-2 or those given."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pieces:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pieces), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=540,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return tokenizer


def train_metaspace_tokenizer() -> Tokenizer:
    """A BPE over characters with bytes for the rest, as that of Mistral: a space is a letter, and one comes first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", *SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS[:2] * 4, trainer)
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Tokenizer, template: str | None, **config: object) -> Path:
    """Write the files of a model's tokenizer, as `save_pretrained` does, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|endoftext|>",
        **config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def transformers_sample(
    tokenizer: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None
) -> tuple[list[int], list[bool]]:
    """Token ids and loss mask by transformers, from the generation marks of the template.

    Where a turn ends with a character of several bytes, transformers marks the first of its tokens alone;
    here all.
    """
    sample = tokenizer.apply_chat_template(
        messages,
        tools=tools,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    mask = [bool(marked) for marked in sample["assistant_masks"]]
    offsets = sample["offset_mapping"]
    for i in range(1, len(mask)):
        mask[i] = mask[i] or (mask[i - 1] and offsets[i][0] < offsets[i - 1][1])
    return sample["input_ids"], mask


def runs(mask: list[bool]) -> list[tuple[int, int]]:
    """The unbroken runs of true marks, as half-open ranges."""
    borders = [i for i, (a, b) in enumerate(zip([False, *mask], [*mask, False], strict=True)) if a != b]
    return list(zip(borders[::2], borders[1::2], strict=True))
