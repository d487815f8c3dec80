"""Chat templates in the styles of published models, and a small tokenizer to use them with.

They have `{% generation %}` around what the assistant writes: transformers needs it for a loss mask of its
own, which osftx' is compared with.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
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


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE as in GPT-2, Qwen and Llama 3, with the special tokens of all the templates."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
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


def transformers_sample(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    """Token ids and loss mask by transformers, from the generation marks of the template.

    Where a turn ends with a character of several bytes, transformers marks the first of its tokens alone;
    here all.
    """
    sample = tokenizer.apply_chat_template(
        messages,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    mask = [bool(marked) for marked in sample["assistant_masks"]]
    offsets = sample["offset_mapping"]
    for i in range(1, len(mask)):
        mask[i] = mask[i] or (mask[i - 1] and offsets[i][0] < offsets[i - 1][1])
    return sample["input_ids"], mask
