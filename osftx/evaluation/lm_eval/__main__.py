"""Measures benchmarks on one checkpoint: `python -m osftx.evaluation.lm_eval SPEC.json [PROCESS_ID_OF_THE_PARENT]`.

Runs the lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), one task after another with new
seeds, so that a task's score does not depend on which other tasks are measured.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from osftx.evaluation.lm_eval.metrics import main_metric
from osftx.evaluation.lm_eval.spec import BenchmarkSpec, Score
from osftx.utils.console import replace_what_cannot_be_shown
from osftx.utils.files import write_json
from osftx.utils.processes import end_with_parent

KEPT = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better", "group_subtasks")
"""Parts of the harness's results that are kept; samples and prompts are not."""


def main() -> None:
    replace_what_cannot_be_shown()
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m osftx.evaluation.lm_eval SPEC.json [PROCESS_ID_OF_THE_PARENT]")
    end_with_parent(int(sys.argv[2]) if len(sys.argv) == 3 else os.getppid())
    spec = BenchmarkSpec.load(Path(sys.argv[1]))
    if spec.confirm_run_unsafe_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # the `evaluate` library asks for confirmation separately
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    gpu = spec.accelerator == "cuda" or (spec.accelerator == "auto" and torch.cuda.is_available())
    manager = TaskManager(include_path=spec.include_path, include_defaults=spec.built_in)
    model = HFLM(
        pretrained=spec.model,
        device="cuda" if gpu else "cpu",
        dtype=spec.dtype,
        batch_size=spec.batch_size,
        trust_remote_code=spec.trust_remote_code,
        attn_implementation=spec.attn_implementation,
    )
    for task in spec.tasks:
        print(f"osftx: task {task}", flush=True)
        given = lm_eval.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=manager,
            num_fewshot=spec.num_fewshot,
            limit=spec.limit,
            apply_chat_template=spec.apply_chat_template,
            fewshot_as_multiturn=spec.apply_chat_template,
            confirm_run_unsafe_code=spec.confirm_run_unsafe_code,
            log_samples=False,
        )
        write_json(spec.score_file(task), _score(task, given))


def _score(task: str, given: dict[str, Any]) -> Score:
    """Returns the score of a task. Raises ValueError with the task's name if there is no figure to show."""
    from lm_eval.utils import handle_non_serializable

    kept = {key: given[key] for key in KEPT if key in given}
    details = _finite(json.loads(json.dumps(kept, default=handle_non_serializable)))
    try:
        metric, value = main_metric(given["results"][task])
    except (KeyError, ValueError) as error:
        reason = error if isinstance(error, ValueError) else "the harness gave no figure of its own for it"
        raise ValueError(f"task {task!r}: {reason}") from error
    return {"metric": metric, "value": value, "details": details}


def _finite(content: Any) -> Any:
    """Replaces figures that are not finite by null, since JSON has no NaN."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


if __name__ == "__main__":
    main()
