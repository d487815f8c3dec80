"""The HTML page of a run: one file that needs no other file and no network."""

from collections.abc import Mapping
from typing import Any

from osftx.report.drawing import Picture
from osftx.report.templates import template
from osftx.results.run_record import PhaseRecord, RunRecord

MOST_ANSWERS = 8
"""Largest number of samples of a set whose answers are shown; those that the states answer differently come first."""
AGAINST_BASE = {
    "kl_to_base": "KL to base",
    "token_agreement": "Token agreement",
    "unchanged_answers": "Unchanged answers",
}
METRICS = {"exact_match": "Exact match", "loss": "Loss", "token_accuracy": "Token accuracy"}


def render(run: RunRecord, pictures: Mapping[str, Picture]) -> str:
    """Returns the page as HTML."""
    protected = [(phase, _protection(phase)) for phase in run.phases if phase.targets]
    done = [phase for phase in run.phases if phase.result]
    foreseen = [phase for phase in done if _free_shares(phase)]
    return template("page.html.jinja").render(
        run=run,
        done=done,
        replays=any(phase.plan.get("replayed") for phase in run.phases),
        protected=protected,
        by_activations=any(worst["kept_output_change"] is not None for _phase, worst in protected),
        foreseen=foreseen,
        foreseen_sets=list(dict.fromkeys(name for phase in foreseen for name in _free_shares(phase)["sets"])),
        pictures=pictures,
        metrics=METRICS,
        against_base=AGAINST_BASE,
        answers=_answers(run),
    )


def _answers(run: RunRecord) -> dict[str, list[dict[str, Any]]]:
    """Returns the samples of each set with generated answers that are shown."""
    shown = {}
    for name in dict.fromkeys(sample["set"] for sample in run.samples):
        own = [sample for sample in run.samples if sample["set"] == name]
        differ = sorted(own, key=lambda sample: len(set(sample["answers"].values())) == 1)
        shown[name] = sorted(differ[:MOST_ANSWERS], key=lambda sample: sample["index"])
    return shown


def _free_shares(phase: PhaseRecord) -> dict[str, Any]:
    """Returns the subspace overlap of each evaluation set; an empty dict for weight-based subspaces."""
    return phase.result.get("preservation", {}).get("free_shares") or {}


def _protection(phase: PhaseRecord) -> dict[str, Any]:
    """Returns the largest values over the targets that show how far the updates left their trainable subspaces."""
    largest = {
        key: max((target[key] for target in phase.targets if target[key] is not None), default=None)
        for key in ("relative_change", "free_input_share", "kept_output_change")
    }
    worst = max(phase.targets, key=lambda target: target["leak_saved"])
    return {
        "targets": len(phase.targets),
        "free_rank": sum(target["free_rank"] for target in phase.targets),
        "rank": sum(target["free_rank"] + target["frozen_rank"] for target in phase.targets),
        "leak_fp32": max(target["leak_fp32"] for target in phase.targets),
        "leak_saved": worst["leak_saved"],
        "worst_weight": worst["name"],
        "update_kept": phase.result.get("preservation", {}).get("update_kept"),
        **largest,
    }
