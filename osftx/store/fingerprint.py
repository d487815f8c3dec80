"""Fingerprints: one hash of everything that decides the result of a phase. Equal ones mean equal models up to rounding.

A fingerprint covers the start model, the data, the tokenizer and the chat template, all by content; the method, ratio,
subspace and training settings; and the versions of the packages that train. It does not cover paths, names, ports, the
number of ranks, callbacks, and settings that change only the rounding (`config/identity.py` lists all of these).
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from osftx.config.identity import Use, ignored_phase_keys
from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import LmEvalConfig, ModelConfig, Precision, TrainingConfig
from osftx.methods.covariance.index import record_beside
from osftx.methods.registry import method_named
from osftx.models.files import MODEL_FILES
from osftx.store.entries import PhaseStore, verified
from osftx.utils.files import write_json
from osftx.utils.manifest import digest

TRAINING_VERSION = 5
"""Version of the training, to be raised when osftx gives another result from the same settings."""
EVALUATION_VERSION = 2
"""Version of the evaluation, to be raised when the same model gets other scores."""
BENCHMARK_VERSION = 1
"""Version of the benchmarks, to be raised when another figure of the harness is used."""
PACKAGES = ("torch", "transformers", "deepspeed", "liger-kernel")
BENCHMARK_PACKAGES = ("torch", "transformers")
LENGTH = 32
"""Number of characters of a fingerprint."""


def of_files(files: Mapping[str, Path], known: Path | None = None) -> str:
    """Returns the fingerprint of files, such as those of a model, by their names and contents.

    Reading the weights of a large model takes a while. The digests of files that have not changed (by size and time of
    change) are therefore taken from the JSON file `known`, and new ones are written there.
    """
    digests: dict[str, str] = {}
    seen = _read(known)
    for name, path in files.items():
        real = path.resolve()
        stat = real.stat()
        key = f"{real} {stat.st_size} {stat.st_mtime_ns}"
        seen[key] = digests[name] = seen.get(key) or digest(real)
    if known is not None and digests:
        _keep(known, seen)
    return _hash(digests)


def start_fingerprint(model: Path, store: PhaseStore | None) -> str:
    """Returns the fingerprint of the model that a run starts from.

    For the checkpoint of a stored phase it is the fingerprint of the phase, else a hash of the content. An input
    covariance that an earlier phase left beside the model is part of it.
    """
    model = model.resolve()
    entry = verified(model.parent)
    if entry is not None:
        return entry.manifest.fingerprint
    files = {str(path.relative_to(model)): path for pattern in MODEL_FILES for path in sorted(model.glob(pattern))}
    if (record := record_beside(model)) is not None:
        files |= {f"{record.name}/{path.name}": path for path in sorted(record.iterdir())}
    return of_files(files, store.known_digests if store is not None else None)


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


def of_benchmark(
    name: str, content: str, settings: LmEvalConfig, model: ModelConfig, dtype: Precision, harness: str
) -> str:
    """Returns the fingerprint of everything but the model that decides its score on a task.

    `content` is the fingerprint of the task's own files (`of_files`), `harness` the version of lm-eval. Data that the
    harness fetches from the Hub counts only by the name of the task. The batch size does not count, because it changes
    only the rounding.
    """
    versions = {package: version(package).partition("+")[0] for package in BENCHMARK_PACKAGES}
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


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in settings.items()}


def _version(package: str, training: TrainingConfig) -> str | None:
    """Returns the version of a package without its local part, which names the build (`+cpu`); None if not used."""
    if package == "liger-kernel" and not training.use_liger:
        return None
    return version(package).partition("+")[0]


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]


def _read(known: Path | None) -> dict[str, str]:
    try:
        return dict(json.loads(known.read_text())) if known is not None else {}
    except (OSError, ValueError, TypeError):  # missing or damaged; the file only saves time
        return {}


def _keep(known: Path, seen: dict[str, str]) -> None:
    with suppress(OSError):  # a read-only store
        known.parent.mkdir(parents=True, exist_ok=True)
        write_json(known, seen)
