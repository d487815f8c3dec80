"""Fingerprints: one hash of everything that decides the result of a phase. Equal ones mean equal models up to rounding.

A fingerprint covers the start model, the data, the tokenizer and the chat template, all by content; the method, ratio,
subspace and training settings; and the versions of the packages that train. It does not cover paths, names, ports, the
number of ranks, callbacks, and settings that change only the rounding (`config/identity.py` lists all of these).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from osftx.config.identity import Use, ignored_phase_keys
from osftx.config.phase_spec import AskedSet, PhaseSpec, StartFile
from osftx.config.run_layout import BEST, CHECKPOINT
from osftx.config.schema import GenerationConfig, LmEvalConfig, ModelConfig, Precision, TrainingConfig
from osftx.errors import ConfigurationError
from osftx.methods.covariance.index import record_beside
from osftx.methods.registry import method_named
from osftx.models.files import MODEL_FILES
from osftx.store.entries import PhaseStore, verified
from osftx.utils.known_digests import KnownDigests, KnownFile

TRAINING_VERSION = 5
"""Version of the training, to be raised when osftx gives another result from the same settings."""
EVALUATION_VERSION = 2
"""Version of the evaluation, to be raised when the same model gets other scores."""
BENCHMARK_VERSION = 1
"""Version of the benchmarks, to be raised when another figure of the harness is used."""
PACKAGES = ("torch", "transformers", "deepspeed", "liger-kernel")
ANSWERS_VERSION = 1
"""Version of the generated answers, to be raised when the same model gives other ones."""
COMPARISON_VERSION = 1
"""Version of the comparison with the start model, to be raised when the same model gets other figures."""
GENERATING_PACKAGES = ("torch", "transformers")
LENGTH = 32
"""Number of characters of a fingerprint."""


def of_files(files: Mapping[str, Path], known: Path | None = None) -> str:
    """Returns the fingerprint of files, such as those of a model, by their names and contents.

    Reading the weights of a large model takes a while. The digests of files that were not touched since they were read
    are therefore taken from the JSON file `known`, and new ones are written there.
    """
    return _hash({name: file.sha256 for name, file in _known(files, known).items()})


@dataclass(frozen=True)
class Start:
    """A model that a phase starts from, as it was read."""

    fingerprint: str
    files: list[StartFile]


def start_of(model: Path, store: PhaseStore | None) -> Start:
    """Returns the model that a run starts from: its fingerprint, and the files that it was computed from.

    For the checkpoint of a phase in the store it is the fingerprint of the phase. For its best state it is made of
    that, as one phase may leave both. For any other model it is a hash of the content. An input covariance that an
    earlier phase left beside the model is part of it. Raises ConfigurationError if a file cannot be read.
    """
    model = model.resolve()
    files = start_files(model, store)
    stored = _stored_phase(model, store)
    if stored is None:
        return Start(_hash({file.name.removeprefix(f"{model.name}/"): file.sha256 for file in files}), files)
    return Start(stored if model.name == CHECKPOINT else _hash({"phase": stored, "state": model.name}), files)


def start_files(model: Path, store: PhaseStore | None) -> list[StartFile]:
    """Returns the files of a model that a phase starts from, as they are now. Raises as `start_of` does."""
    known = _known(_model_files(model.resolve()), store.known_digests if store is not None else None)
    return [StartFile(name, file.sha256, list(file.state) if file.state else None) for name, file in known.items()]


def start_fingerprint(model: Path, store: PhaseStore | None) -> str:
    """Returns the fingerprint of the model that a run starts from (`start_of`)."""
    return start_of(model, store).fingerprint


def _model_files(model: Path) -> dict[str, Path]:
    """Returns the files of a model and of the input covariance beside it, by path relative to the model's parent."""
    found = [path for pattern in MODEL_FILES for path in sorted(model.glob(pattern)) if path.is_file()]
    if (record := record_beside(model)) is not None:
        found += [path for path in sorted(record.iterdir()) if path.is_file()]
    return {str(path.relative_to(model.parent)): path for path in found}


def _stored_phase(model: Path, store: PhaseStore | None) -> str | None:
    """Returns the fingerprint of the phase in the store that left the model; None if the store has none.

    A manifest elsewhere proves nothing: whoever made the folder wrote it.
    """
    if store is None or model.parent.parent != store.phases.resolve() or model.name not in (CHECKPOINT, BEST):
        return None
    entry = verified(model.parent)
    return entry.manifest.fingerprint if entry is not None else None


def _known(files: Mapping[str, Path], known: Path | None) -> dict[str, KnownFile]:
    digests = KnownDigests(known)
    try:
        found = {name: digests.of(path) for name, path in files.items()}
    except OSError as error:
        raise ConfigurationError(
            [f"{error.filename}: cannot be read ({error.strerror}); give yourself the right to, or use another folder"]
        ) from error
    digests.keep()
    return found


def of_phase(spec: PhaseSpec, parent: str) -> str:
    """Returns the fingerprint of a phase that starts from the model with the fingerprint `parent`.

    Data counts by the names of the folders of tokenised samples, which follow from their content. An input covariance
    beside the start model is already part of `parent`.
    """
    ignored = ignored_phase_keys(Use.PHASE)
    training = {key: value for key, value in _plain(asdict(spec.training)).items() if key not in ignored}
    content: dict[str, Any] = {
        "training_version": TRAINING_VERSION,
        "packages": {package: _version(package, spec.training) for package in PACKAGES},
        "parent": parent,
        "data": Path(spec.data).name,
        "method": spec.method,
        "training": training,
        "attn_implementation": spec.model.attn_implementation,
        "trust_remote_code": spec.model.trust_remote_code,
    }
    if spec.training.deterministic:  # the same bits are asked for, so what changes the rounding counts, too
        content["rounding"] = _rounding(spec)
    if spec.distributed.deepspeed:
        content["deepspeed"] = spec.distributed.deepspeed
    if spec.evaluate_every_steps is not None:  # the curve is part of what the phase leaves
        sets = {name: Path(folder).name for name, folder in spec.evaluation_sets.items()}
        content["curve"] = {"every_steps": spec.evaluate_every_steps, "sets": sets}
    if spec.validation is not None:  # a file counts by its samples, a split by seed and data
        settings = _plain(asdict(spec.validation.settings)) | {"path": None}
        samples = spec.validation.samples
        own = spec.validation.own_samples if samples is None else None  # for a split: replayed ones are not split
        content["validation"] = settings | {"samples": Path(samples).name if samples is not None else None, "own": own}
    if spec.added_stop_tokens:
        content["added_stop_tokens"] = spec.added_stop_tokens
    if spec.method_settings:
        content["method_settings"] = spec.method_settings
    return _hash(content | method_named(spec.method).fingerprint(spec))


def of_evaluation(spec: PhaseSpec, samples: Path) -> str:
    """Returns the fingerprint of everything but the model that decides its scores on an evaluation set.

    `samples` is the folder of the tokenised samples, whose name follows from their content.
    """
    content = {
        "evaluation_version": EVALUATION_VERSION,
        "packages": {package: _version(package, spec.training) for package in PACKAGES},
        "data": samples.name,
        "train_dtype": spec.training.train_dtype.value,
        "attn_implementation": spec.model.attn_implementation,
        "trust_remote_code": spec.model.trust_remote_code,
    }
    return _hash(content)


def of_answers(spec: PhaseSpec, asked: AskedSet, settings: GenerationConfig) -> str:
    """Returns the fingerprint of everything but the model that decides its answers to an evaluation set.

    The batch size counts only for sampling, where it decides the random numbers of each answer.
    """
    content = {
        "answers_version": ANSWERS_VERSION,
        "packages": {package: _version(package, spec.training) for package in GENERATING_PACKAGES},
        "data": Path(asked.samples).name,
        "max_new_tokens": asked.max_new_tokens,
        "stop_ids": asked.stop_ids,
        "sampling": asdict(settings) if settings.temperature else None,
        "train_dtype": spec.training.train_dtype.value,
        "attn_implementation": spec.model.attn_implementation,
        "trust_remote_code": spec.model.trust_remote_code,
    }
    return _hash(content)


def of_comparison(spec: PhaseSpec, asked: AskedSet, settings: GenerationConfig, base: str) -> str:
    """Returns the fingerprint of everything but the model that decides its comparison with the start model.

    `base` is the fingerprint of the start model.
    """
    return _hash({"comparison_version": COMPARISON_VERSION, "base": base, "answers": of_answers(spec, asked, settings)})


def of_benchmark(
    name: str, content: str, settings: LmEvalConfig, model: ModelConfig, dtype: Precision, harness: str
) -> str:
    """Returns the fingerprint of everything but the model that decides its score on a task.

    `content` is the fingerprint of the task's own files (`of_files`), `harness` the version of lm-eval. Data that the
    harness fetches from the Hub counts only by the name of the task. The batch size does not count, because it changes
    only the rounding.
    """
    versions = {package: version(package).partition("+")[0] for package in GENERATING_PACKAGES}
    return _hash(
        {
            "benchmark_version": BENCHMARK_VERSION,
            "packages": versions | {"lm-eval": harness},
            "task": name,
            "content": content,
            "num_fewshot": settings.num_fewshot,
            "limit": settings.limit,
            "apply_chat_template": settings.apply_chat_template,
            "dtype": dtype.value,
            "attn_implementation": model.attn_implementation,
            "trust_remote_code": model.trust_remote_code,
        }
    )


def _rounding(spec: PhaseSpec) -> dict[str, Any]:
    """Returns what changes only the rounding: the build of torch, the kind of device, and the shares of the ranks."""
    training, ranks = spec.training, spec.distributed
    return {
        "torch": version("torch"),
        "accelerator": ranks.accelerator.value,
        "ranks": ranks.nproc_per_node * ranks.nnodes,
        "offload": asdict(ranks.offload),
        "max_tokens_per_gpu": training.max_tokens_per_gpu,
        "activation_checkpointing": training.activation_checkpointing,
    }


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in settings.items()}


def _version(package: str, training: TrainingConfig) -> str | None:
    """Returns the version of a package without its local part, which names the build (`+cpu`); None if not used."""
    if package == "liger-kernel" and not training.use_liger:
        return None
    return version(package).partition("+")[0]


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]
