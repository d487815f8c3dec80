"""Advice about the model, the data and the store of a run: what is unusual, though the run can start."""

import os
from collections.abc import Mapping, Sequence

from osftx.config.schema import DataConfig, ExperimentConfig, SpecialTokens
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.samples import DataSummary, Prepared
from osftx.models.context import context_of
from osftx.models.families import FAMILIES
from osftx.models.files import ModelFiles, embedding_rows
from osftx.models.targets import Target, of_unknown_family
from osftx.utils.files import nearest


def skipped_advice(skipped: Mapping[str, DataSummary]) -> list[str]:
    return [
        f"{setting}: {summary.skipped} rows cannot be used and are left out (on_bad_row=skip; see results.json); "
        f"the first, {summary.skipped_rows[0].place}: {summary.skipped_rows[0].reason}"
        for setting, summary in skipped.items()
    ]


def special_advice(read: Mapping[str, Prepared], settings: Mapping[str, DataConfig]) -> list[str]:
    """Returns advice about data whose contents spell out special tokens."""
    lines = []
    for setting, summary in ((name, one.summary) for name, one in read.items()):
        if not summary.special_rows:
            continue
        count = "1 row spells" if summary.special_rows == 1 else f"{summary.special_rows} rows spell"
        places, tokens = ", ".join(summary.first_special_rows[:3]), ", ".join(summary.spelled_tokens[:5])
        plain = settings[setting].special_tokens is SpecialTokens.as_text and summary.turns.keys() - {"pretraining"}
        lines.append(
            f"{setting}: {count} out special tokens ({tokens}) in a content, the first: {places}; "
            + (
                "they are plain text, so that no content ends or opens a turn; special_tokens=allow reads them as "
                "special tokens, special_tokens=fail refuses them"
                if plain
                else "they are read as special tokens, as transformers does; special_tokens=fail refuses them"
            )
        )
    return lines


def adjusted_advice(read: Mapping[str, Prepared]) -> list[str]:
    return [
        f"{setting}: {', '.join(f'{count:,} {what}' for what, count in prepared.summary.adjusted.items())} (see "
        "docs/how-to/data.md)"
        for setting, prepared in read.items()
        if prepared.summary.adjusted
    ]


def dropped_advice(evaluation: Mapping[str, Prepared], longest: int) -> list[str]:
    return [
        f"evaluation set {name}: {summary.dropped} of {summary.samples + summary.dropped} samples are longer than "
        f"training.max_seq_len={longest} and are not measured"
        for name, summary in ((name, one.summary) for name, one in evaluation.items())
        if summary.dropped
    ]


def length_advice(model: ModelFiles | None, read: Mapping[str, Prepared]) -> list[str]:
    """Returns advice about samples that are longer than the model's config declares, and that the model runs."""
    context = context_of(model) if model is not None else None
    setting, longest = max(
        ((setting, prepared.summary.longest_sample) for setting, prepared in read.items()),
        key=lambda found: found[1],
        default=("", 0),
    )
    if context is None or context.ends or longest <= context.declared:
        return []
    return [
        f"{setting} has a sample of {longest} tokens, but config.json declares {context.declared} positions: the model "
        "runs it, though it was not made for it; lower max_seq_len (longer samples are dropped), or declare how its "
        "rotary positions are scaled (rope_scaling)"
    ]


def model_advice(
    config: ExperimentConfig, model: ModelFiles, targets: Sequence[Target], tokenizer: ChatTokenizer | None
) -> list[str]:
    """Returns advice about what is unusual in the model."""
    advice = []
    if targets and config.osft.target_patterns is None and model.config.get("model_type") not in FAMILIES:
        advice.append(of_unknown_family(model.config, targets))
    rows = embedding_rows(model)
    if tokenizer is not None and rows is not None and tokenizer.vocab_size > rows:
        advice.append(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's table of embeddings {rows} rows: the model "
            "cannot read the others, and what it generates never has them"
        )
    return advice


def store_advice(config: ExperimentConfig) -> list[str]:
    if not config.reuse or os.access(nearest(config.store_dir), os.W_OK):
        return []
    return [
        f"store_dir={config.store_dir} cannot be written: phases in it are reused, but what is trained will be in the "
        "run folder alone, and a phase that is broken off will start again"
    ]
