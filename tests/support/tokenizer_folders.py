"""Small tokenizer folders in the styles of published model families, for a comparison with transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_family import CORPUS, LINES
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXT = [*CORPUS, "Hello world, it's a test.  Two spaces\tand a tab\r\nand lines\n\n\nend"] * 3
BYTES = [f"<0x{number:02X}>" for number in range(256)]


def _special(*texts: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False, **flags) for text in texts]


def _opened(tokenizer: Tokenizer, bos: str, *behind: str) -> Tokenizer:
    names = [(name, tokenizer.token_to_id(name)) for name in (bos, *behind)]
    single = " ".join([bos, "$A", *behind])
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=names)
    return tokenizer


def byte_level(*special: str, pieces: str | None = None, prefix: bool = False) -> Tokenizer:
    """As in GPT-2, GPT-NeoX, Phi, Qwen and Llama 3."""
    tokenizer = Tokenizer(models.BPE())
    own = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pieces is None)
    split = [pre_tokenizers.Split(Regex(pieces), "isolated")] if pieces else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, own]) if pieces else own
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=_special(*special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def sentence_bpe(*special: str, normalizer: Any, pre_tokenizer: Any = None) -> Tokenizer:
    """As SentencePiece's BPE with byte fallback: Llama 2, Mistral, Gemma."""
    tokenizer = Tokenizer(models.BPE(unk_token=special[-1], fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[*_special(*special), *BYTES], max_token_length=8, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][: len(special)]  # bytes are pieces of the model alone
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = _special("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer.train_from_iterator(
        TEXT, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    return _opened(tokenizer, "[CLS]", "[SEP]")


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=_special("<pad>", "</s>", "<unk>"), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


LEGACY = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
SPACES = normalizers.Replace(" ", "▁")
LLAMA2 = ("<s>", "</s>", "<unk>")
GEMMA = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<unk>")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
PIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
DECLARED = {"single_word": False, "rstrip": False, "lstrip": False, "normalized": False, "special": True}

Files = dict[str, Any]
"""Contents of the files beside tokenizer.json, by name."""

STYLES: dict[str, tuple[Callable[[], Tokenizer], Files]] = {
    "llama 3": (
        lambda: _opened(byte_level(*LLAMA3, pieces=LINES), "<|begin_of_text|>"),
        {
            "tokenizer_config": {
                "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": LLAMA3[0], "eos_token": LLAMA3[-1],
            },
            "config": {"model_type": "llama"},
        },
    ),
    "llama 3, saved as Llama's class": (
        lambda: _opened(byte_level(*LLAMA3, pieces=LINES), "<|begin_of_text|>"),
        {
            "tokenizer_config": {
                "tokenizer_class": "LlamaTokenizerFast", "bos_token": LLAMA3[0], "eos_token": LLAMA3[-1],
            },
            "config": {"model_type": "llama"},
        },
    ),
    "qwen 2": (
        lambda: byte_level(*QWEN[:1], pieces=LINES),
        {
            "tokenizer_config": {
                "tokenizer_class": "Qwen2Tokenizer",
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
                "added_tokens_decoder": {
                    "500": DECLARED | {"content": "<|im_start|>"},
                    "501": DECLARED | {"content": "<|im_end|>"},
                    "502": DECLARED | {"content": "<tool_call>", "special": False},
                },
            },
            "config": {"model_type": "qwen2"},
        },
    ),
    "qwen 2 without names of special tokens": (
        lambda: byte_level(*QWEN, pieces=LINES),
        {"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer"}, "config": {"model_type": "qwen2"}},
    ),
    "llama 2": (
        lambda: _opened(sentence_bpe(*LLAMA2, normalizer=LEGACY), "<s>"),
        {
            "tokenizer_config": PIECE | {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True},
            "config": {"model_type": "llama"},
        },
    ),
    "llama 2, not legacy": (
        lambda: _opened(sentence_bpe(*LLAMA2, normalizer=LEGACY), "<s>"),
        {
            "tokenizer_config": PIECE
            | {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_eos_token": True, "add_prefix_space": False},
            "config": {"model_type": "llama"},
        },
    ),
    "mistral": (
        lambda: _opened(
            sentence_bpe(
                *LLAMA2,
                "[INST]",
                "[/INST]",
                "<unk>",
                normalizer=None,
                pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
            ),
            "<s>",
        ),
        {
            "tokenizer_config": PIECE | {"tokenizer_class": "LlamaTokenizerFast"},
            "config": {"model_type": "mistral"},
            "special_tokens_map": PIECE,
        },
    ),
    "gemma": (
        lambda: _opened(
            sentence_bpe(*GEMMA, normalizer=SPACES, pre_tokenizer=pre_tokenizers.Split(" ", "merged_with_previous")),
            "<bos>",
        ),
        {
            "tokenizer_config": {
                "tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>",
                "pad_token": "<pad>",
            },
            "config": {"model_type": "gemma2"},
        },
    ),
    "gpt 2": (
        lambda: byte_level("<|endoftext|>"),
        {"tokenizer_config": {"model_max_length": 1024}, "config": {"model_type": "gpt2"}},
    ),
    "gpt-neox": (
        lambda: byte_level("<|endoftext|>", "<|padding|>"),
        {
            "tokenizer_config": {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": False},
            "config": {"model_type": "gpt_neox"},
        },
    ),
    "phi": (
        lambda: byte_level("<|endoftext|>"),
        {
            "tokenizer_config": {"tokenizer_class": "CodeGenTokenizer", "eos_token": "<|endoftext|>"},
            "added_tokens": {"  ": 500, "<|user|>": 501},
            "config": {"model_type": "phi"},
        },
    ),
    "phi 3": (
        lambda: _opened(sentence_bpe(*LLAMA2, normalizer=LEGACY), "<s>"),
        {
            "tokenizer_config": PIECE
            | {
                "tokenizer_class": "LlamaTokenizer",
                "legacy": False,
                "added_tokens_decoder": {
                    "700": DECLARED | {"content": "<|user|>", "rstrip": True},
                    "701": DECLARED | {"content": "<|end|>", "rstrip": True},
                },
            },
            "config": {"model_type": "phi3"},
        },
    ),
    "bert": (word_piece, {"tokenizer_config": {"tokenizer_class": "BertTokenizer"}, "config": {"model_type": "bert"}}),
    "t5": (
        unigram,
        {
            "tokenizer_config": {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "extra_ids": 0},
            "config": {"model_type": "t5"},
        },
    ),
    "unigram of no class": (
        unigram,
        {"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}},
    ),
    "extra tokens in the configuration alone": (
        lambda: byte_level(*QWEN),
        {
            "tokenizer_config": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<|im_end|>",
                "extra_special_tokens": ["<|tool|>", "<|call|>"],
            }
        },
    ),
    "named tokens in the configuration alone": (
        lambda: byte_level(*QWEN),
        {
            "tokenizer_config": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<|im_end|>",
                "extra_special_tokens": {"tool_token": "<|tool|>"},
            }
        },
    ),
    "older files": (
        lambda: byte_level(*QWEN),
        {
            "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"},
            "special_tokens_map": {
                "eos_token": DECLARED | {"content": "<|stop|>", "lstrip": True},
                "additional_special_tokens": ["<|tool|>"],
            },
            "added_tokens": {"<|stop|>": 500, "<|word|>": 501},
        },
    ),
    "special tokens are split": (
        lambda: byte_level(*QWEN),
        {
            "tokenizer_config": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": "<|im_end|>",
                "split_special_tokens": True,
            }
        },
    ),
}  # fmt: skip


def save_style(folder: Path, style: str) -> Path:
    """Writes the tokenizer folder of a style, and returns it."""
    make, files = STYLES[style]
    folder.mkdir(parents=True, exist_ok=True)
    make().save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
