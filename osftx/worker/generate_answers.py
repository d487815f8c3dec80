"""Generates the answers of evaluation sets and compares the model with the start model, on all ranks of a run.

Every rank holds the whole model and takes its share of the prompts, so no weight is gathered while it generates.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from osftx.config.phase_spec import AskedSet, GenerationSpec, PhaseSpec
from osftx.config.run_layout import ANSWERS_FILE
from osftx.data.prompts import Prompt, prompts_of
from osftx.data.samples import load_samples
from osftx.distributed.load_model import DTYPES
from osftx.evaluation.base_comparison import compare
from osftx.evaluation.generation import generate, own_stop_ids
from osftx.evaluation.padded_rows import attention_for_padded_rows
from osftx.utils.files import write_json
from osftx.utils.progress import progress
from osftx.worker.setup_phase import join_ranks
from osftx.worker.start_model import check_start

Answers = dict[str, list[dict[str, Any]]]
"""For each evaluation set the answers in the order of its samples, each with `ids` and `end`
(`evaluation.generation.Answer`)."""


def generate_answers(spec: PhaseSpec) -> None:
    """Does what `spec.generation` asks for. Collective.

    Rank 0 writes `answers.json`: `answers`, and `against_base`, the figures of each set that is compared.
    """
    wanted = spec.generation
    assert wanted is not None
    device = join_ranks(spec)
    model = _load(spec, spec.model.path, device)
    check_start(spec)
    own_stops = own_stop_ids(model)
    answers = {name: _answers(wanted, name, asked, model, own_stops) for name, asked in wanted.sets.items()}
    compared = _compared(spec, wanted, answers, model, device) if wanted.against_base else {}
    if dist.get_rank() == 0:
        write_json(Path(spec.folder) / ANSWERS_FILE, {"answers": answers, "against_base": compared})


def _load(spec: PhaseSpec, folder: str, device: torch.device) -> PreTrainedModel:
    """Returns a whole model in the precision of the forward pass; it is the same for every state of the run."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=DTYPES[spec.training.train_dtype],
        attn_implementation=attention_for_padded_rows(spec.model.attn_implementation),
        trust_remote_code=spec.model.trust_remote_code,
    )
    cast(nn.Module, model).to(device)
    return cast(PreTrainedModel, model.eval())


def _answers(
    wanted: GenerationSpec, name: str, asked: AskedSet, model: PreTrainedModel, own_stops: list[int]
) -> list[dict[str, Any]]:
    """Returns the answers to all prompts of a set. Collective."""
    settings, ranks = wanted.settings, dist.get_world_size()
    prompts = list(prompts_of(load_samples(asked.samples)))
    batches = -(-len(prompts) // settings.batch_size)
    with progress(f"answering {name}", -(-batches // ranks), "batches") as bar:
        own = generate(
            model,
            prompts,
            [*asked.stop_ids, *own_stops],
            asked.max_new_tokens,
            settings.batch_size,
            settings.temperature,
            settings.seed,
            dist.get_rank(),
            ranks,
            bar,
        )
    shares: list[Any] = [None] * ranks
    dist.all_gather_object(shares, own)
    answers = sorted((answer for share in shares for answer in share), key=lambda answer: answer.index)
    return [{key: value for key, value in asdict(answer).items() if key != "index"} for answer in answers]


def _compared(
    spec: PhaseSpec, wanted: GenerationSpec, answers: Answers, model: PreTrainedModel, device: torch.device
) -> dict[str, dict[str, float]]:
    """Returns the figures of each set that is compared with the start model. Collective."""
    if wanted.base_answers is None:
        base, of_base = model, answers  # the model is the start model itself
    else:
        base, of_base = (
            _load(spec, wanted.base, device),
            json.loads(Path(wanted.base_answers).read_text(encoding="utf-8")),
        )
    return {
        name: _against_base(wanted, asked, of_base[name], model, base) for name, asked in wanted.against_base.items()
    }


def _against_base(
    wanted: GenerationSpec,
    asked: AskedSet,
    of_base: list[dict[str, Any]],
    model: PreTrainedModel,
    base: PreTrainedModel,
) -> dict[str, float]:
    """Returns the figures of one set, of which `of_base` holds the answers of the start model. Collective."""
    prompts = prompts_of(load_samples(asked.samples))
    answered = [
        Prompt(prompt.ids, answer["ids"] + ([] if answer["end"] is None else [answer["end"]]))
        for prompt, answer in zip(prompts, of_base, strict=True)
    ]
    sums = compare(model, base, answered, wanted.settings.batch_size, dist.get_rank(), dist.get_world_size())
    dist.all_reduce(sums)
    divergence, agreeing, unchanged, tokens = sums.tolist()
    return {
        "kl_to_base": divergence / tokens,
        "token_agreement": agreeing / tokens,
        "unchanged_answers": unchanged / len(answered),
        "tokens": tokens,
    }
