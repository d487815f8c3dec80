"""Returns the benchmark scores of a state of the model: from the phase store if known, otherwise measured and kept."""

from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from osftx.config.schema import ExperimentConfig
from osftx.evaluation.lm_eval.spec import BenchmarkSpec, Score
from osftx.evaluation.lm_eval.start import run_benchmarks
from osftx.evaluation.lm_eval.tasks import PACKAGE, Task
from osftx.evaluation.padded_rows import attention_for_padded_rows
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_benchmark, of_files
from osftx.utils.files import expanded, write_json


class Benchmarks:
    """The benchmarks of one run; does nothing if no task is requested."""

    def __init__(self, config: ExperimentConfig, tasks: Mapping[str, Task], store: PhaseStore | None):
        self._config, self._tasks, self._store = config, tasks, store
        self._scores: dict[str, dict[str, Score]] = {}

    def measure(self, state: str, model: Path, fingerprint: str, folder: Path) -> None:
        """Scores the checkpoint `model`, which has this fingerprint.

        Writes all of the harness's output to `<folder>.json`. Raises TrainingError if the measurement fails.
        """
        if not self._tasks:
            return
        store = self._store
        # Of two runs at the same time, the second one waits and finds what the first one has measured.
        alone = store.lock(f"{fingerprint}-benchmarks", "measuring benchmarks") if store is not None else nullcontext()
        with alone:
            scores = self._known(fingerprint)
            missing = [name for name in self._tasks if name not in scores]
            if known := [name for name in self._tasks if name in scores]:
                print(f"benchmarks of {state}: known {', '.join(known)}", flush=True)
            if missing:
                print(f"benchmarks of {state}: measuring {', '.join(missing)} (log in {folder})", flush=True)
                scores |= self._run(state, missing, model, fingerprint, folder)
        self._scores[state] = {name: scores[name] for name in self._tasks}
        details = {name: {"metric": score["metric"]} | score["details"] for name, score in self._scores[state].items()}
        write_json(folder.with_suffix(".json"), {"state": state, "lm_eval": version(PACKAGE), "tasks": details})

    def table(self) -> dict[str, Any] | None:
        """Returns `retention.benchmarks` of results.json, or None if there are no tasks.

        The states are in the order in which they were measured.
        """
        if not self._tasks:
            return None
        first = next(iter(self._scores.values()))
        return {
            "tasks": list(self._tasks),
            "metrics": {name: first[name]["metric"] for name in self._tasks},
            "values": [[scores[name]["value"] for name in self._tasks] for scores in self._scores.values()],
        }

    def _known(self, model: str) -> dict[str, Score]:
        if self._store is None:
            return {}
        found = {name: self._store.benchmark(model, self._fingerprint(task)) for name, task in self._tasks.items()}
        return {name: score for name, score in found.items() if score is not None}

    def _run(self, state: str, names: list[str], model: Path, fingerprint: str, folder: Path) -> dict[str, Score]:
        config, settings = self._config, self._config.evaluation.lm_eval
        spec = BenchmarkSpec(
            model=str(model),
            tasks=names,
            include_path=settings.include_path and str(expanded(settings.include_path)),
            built_in=any(self._tasks[name].built_in for name in names),
            num_fewshot=settings.num_fewshot,
            limit=settings.limit,
            batch_size=settings.batch_size,
            apply_chat_template=settings.apply_chat_template,
            confirm_run_unsafe_code=settings.confirm_run_unsafe_code,
            dtype=config.training.train_dtype.value,
            attn_implementation=attention_for_padded_rows(config.model.attn_implementation),
            trust_remote_code=config.model.trust_remote_code,
            accelerator=config.distributed.accelerator.value,
            folder=str(folder),
        )
        try:
            run_benchmarks(spec, config.distributed, settings.timeout_s, state)
        finally:  # scores from before a failure are kept, too
            done = spec.scores()
            if self._store is not None:
                for name, score in done.items():
                    self._store.keep_benchmark(fingerprint, self._fingerprint(self._tasks[name]), score)
        return done

    def _fingerprint(self, task: Task) -> str:
        config = self._config
        content = of_files(task.files, self._store.known_digests if self._store is not None else None)
        return of_benchmark(
            task.name,
            content,
            config.evaluation.lm_eval,
            config.model,
            config.training.train_dtype,
            version(PACKAGE),
        )
