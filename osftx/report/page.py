"""The page: one HTML file that needs no other file and no network. The template escapes all text."""

import base64
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from osftx.report.figures import Picture
from osftx.report.run import PhaseRecord, Run

TEMPLATES = Path(__file__).parent
NONE = "-"
"""Stands where there is no value."""

METRICS = {"exact_match": "Exact match", "loss": "Loss", "token_accuracy": "Token accuracy"}


def render(run: Run, pictures: Mapping[str, Picture]) -> str:
    """The page's HTML."""
    return template("page.html.jinja").render(
        run=run,
        done=sum(phase.result is not None for phase in run.phases),
        training=[_training(phase) for phase in run.phases if phase.result is not None],
        protection=[_protection(phase) for phase in run.phases if phase.targets],
        pictures=pictures,
        metrics=METRICS,
    )


def template(name: str) -> Template:
    """A template of this folder, with the filters that the pages share."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=_count, size=_size, number=_number, leak=_leak, image=_image, clock=_clock)
    return environment.get_template(name)


def _training(phase: PhaseRecord) -> dict[str, Any]:
    """How one phase went."""
    assert phase.result is not None
    memory = [step["peak_memory_usage_GB"] for step in phase.steps if step.get("peak_memory_usage_GB")]
    return {
        "label": phase.label,
        "steps": phase.result["steps"],
        "tokens": phase.result["tokens"],
        "duration": _clock(phase.result["duration_s"]),
        "first_loss": phase.steps[0]["loss"] if phase.steps else None,
        "last_loss": phase.steps[-1]["loss"] if phase.steps else None,
        "tokens_per_second": median(step["tokens_per_second"] for step in phase.steps) if phase.steps else None,
        "memory_gb": max(memory, default=None),
    }


def _protection(phase: PhaseRecord) -> dict[str, Any]:
    """How far the phase's updates left their free subspaces: the worst of its targets."""
    largest = {
        key: max((target[key] for target in phase.targets if target[key] is not None), default=None)
        for key in ("relative_change", "kept_output_change")
    }
    worst = max(phase.targets, key=lambda target: target["leak_saved"])
    return {
        "label": phase.label,
        "targets": len(phase.targets),
        "free_rank": sum(target["free_rank"] for target in phase.targets),
        "rank": sum(target["free_rank"] + target["frozen_rank"] for target in phase.targets),
        "leak_fp32": max(target["leak_fp32"] for target in phase.targets),
        "leak_saved": worst["leak_saved"],
        "worst_weight": worst["name"],
        **largest,
    }


def _count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _size(value: float) -> str:
    """Parameters, to three digits: 8,030,261,248 is 8.03 B."""
    for unit, name in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def _number(value: float | None) -> str:
    """Three decimals, as on the screen."""
    return NONE if value is None else f"{value:.3f}"


def _leak(value: float | None) -> str:
    return NONE if value is None else f"{value:.1e}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _image(path: Path) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
