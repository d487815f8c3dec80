"""What a person sees on the screen: the plan before the run, the retention table after each phase."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from osftx.evaluation.retention import METRICS
from osftx.plan import Plan, PlannedPhase

ENOUGH_KEPT = 0.9
"""Share of a phase's update in the saved weights, below which a warning is shown."""
LOG_WIDTH = 160
"""Columns where the output is no terminal: a table in a log must not be cut."""


def show_plan(plan: Plan) -> None:
    """One column a phase, so that two or three fit a terminal: what it does, from what, with how much."""
    shown = Table(title=f"Plan of {escape(plan.name)}", title_justify="left")
    shown.add_column("phase")
    for phase in plan.phases:
        shown.add_column(escape(phase.name), justify="right", overflow="fold")
    rows: dict[str, Callable[[PlannedPhase], str]] = {
        "method": lambda phase: phase.method,
        "unfreeze ratio": lambda phase: "-" if phase.unfreeze_rank_ratio is None else f"{phase.unfreeze_rank_ratio:g}",
        "learning rate": lambda phase: f"{phase.learning_rate:g}",
        "samples": lambda phase: f"{phase.samples:,}",
        "of them replayed": lambda phase: f"{sum(phase.replayed.values()):,}",
        "validated on": lambda phase: f"{phase.validated:,}",
        "dropped, too long": lambda phase: f"{phase.dropped:,}",
        "tokens of an epoch": lambda phase: f"{phase.tokens:,}",
        "steps": lambda phase: f"{phase.steps:,}",
        "trainable numbers": lambda phase: f"{phase.trainable_parameters:,}",
        "frozen numbers": lambda phase: f"{phase.frozen_parameters:,}",
        "starts from": lambda phase: escape(phase.starts_from),
        "a rank's memory between steps": lambda phase: _size(phase.memory.between_steps if phase.memory else None),
        "at the peak of a step": lambda phase: _size(phase.memory.peak if phase.memory else None),
        "in host memory": lambda phase: _size(phase.memory.on_host if phase.memory else None),
        "disk, to stay": lambda phase: _size(phase.disk.result + phase.disk.eigenvectors if phase.disk else None),
        "disk, while it trains": lambda phase: _size(phase.disk.while_training if phase.disk else None),
    }
    if any(phase.duration for phase in plan.phases):
        rows |= {"time": lambda phase: _time(phase.duration.total if phase.duration else None)}
        rows |= {f"of it {part}": partial(_part_of_time, part) for part in ("start", "training", "measuring", "saving")}
    if not any(phase.memory and phase.memory.on_host for phase in plan.phases):
        del rows["in host memory"]
    if not any(phase.replayed for phase in plan.phases):
        del rows["of them replayed"]
    if not any(phase.validated for phase in plan.phases):
        del rows["validated on"]
    for heading, cell in rows.items():
        shown.add_row(heading, *map(cell, plan.phases))
    screen = console()
    screen.print(shown)
    if plan.protected:
        screen.print(f"protected: {escape(plan.protected)}", style="dim", highlight=False)
    if plan.left_out:
        screen.print(
            f"not protected (trained by sft and osft.train_others=true alone): {escape(plan.left_out)}",
            style="dim",
            highlight=False,
        )
    for phase in plan.phases:
        if phase.keeps is not None:
            screen.print(f"{escape(phase.name)} keeps the inputs of: {escape(phase.keeps)}", style="dim")
        if phase.replayed:
            sources = ", ".join(f"{count:,} of {source}" for source, count in phase.replayed.items())
            screen.print(f"{escape(phase.name)} replays {escape(sources)}", style="dim", highlight=False)
    for warning in plan.warnings:
        screen.print(f"warning: {escape(warning)}", style="yellow", highlight=False)


def show_retention(results: dict[str, Any]) -> None:
    """The table of every metric, states by sets and benchmarks, and the figures."""
    retention = results["retention"]
    screen = console()
    benchmarks = retention.get("benchmarks") or {
        "tasks": [],
        "metrics": {},
        "values": [[] for _ in retention["states"]],
    }
    if retention["sets"] or benchmarks["tasks"]:
        shown = Table(title="Exact match (loss)" if retention["sets"] else "Benchmarks", title_justify="left")
        shown.add_column("after")
        for name in retention["sets"]:
            shown.add_column(escape(name), justify="right")
        for name in benchmarks["tasks"]:
            shown.add_column(escape(f"{name}\n{benchmarks['metrics'][name]}"), justify="right", overflow="fold")
        exact, loss = (retention["metrics"][metric] for metric in METRICS[:2])
        for state, row, losses, scores in zip(retention["states"], exact, loss, benchmarks["values"], strict=True):
            cells = [f"{a:.3f} ({b:.3f})" for a, b in zip(row, losses, strict=True)]
            shown.add_row(escape(state), *cells, *(f"{score:.3f}" for score in scores))
        screen.print(shown)
    if retention["sets"]:
        figures = [
            f"{key.replace('_', ' ')} {value:.3f}" for key, value in results["summary"].items() if value is not None
        ]
        screen.print(", ".join(figures), highlight=False)
    kept = results["phases"][-1]["preservation"]
    if kept["leak_saved"] is not None:
        screen.print(
            f"leak into frozen directions: {kept['leak_fp32']:.1e} as trained, {kept['leak_saved']:.1e} as saved "
            f"(worst: {escape(kept['worst_weight'])})",
            highlight=False,
        )
    if kept["update_kept"] is not None and kept["update_kept"] < ENOUGH_KEPT:
        name = escape(results["phases"][-1]["name"])
        screen.print(
            f"warning: {kept['update_kept']:.0%} of the update of {name} is in the saved weights, the rest was rounded "
            f"away; set phases.{name}.save_dtype=float32 (hand_on_dtype, where a phase follows) to save all of it",
            style="yellow",
            highlight=False,
        )
    if kept["kept_output_change"] is not None:
        screen.print(
            f"largest change of a layer's output on kept inputs: {kept['kept_output_change']:.1e} "
            f"(largest share of these that is free: {kept['free_input_share']:.1e})",
            highlight=False,
        )
    if kept["free_shares"] is not None:
        shares = {"what is taught": kept["free_shares"]["taught"], **kept["free_shares"]["sets"]}
        told = ", ".join(f"{share:.2g} of {escape(name)}" for name, share in shares.items())
        screen.print(f"foreseen share of inputs in free directions: {told}", highlight=False)


def _size(amount: int | None) -> str:
    """Estimated bytes."""
    return "-" if amount is None else f"about {decimal(amount)}"


def _part_of_time(part: str, phase: PlannedPhase) -> str:
    return _time(getattr(phase.duration, part, None))


def _time(seconds: float | None) -> str:
    """Estimated."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return "less than 1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"about {hours} h {minutes} min"
    return f"about {minutes} min {rest} s" if minutes else f"about {rest} s"


def console() -> Console:
    """The screen, or a log wide enough for a table."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=LOG_WIDTH)
