"""What a person sees on the screen: the plan before the run, the retention table after each phase."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from osftx.evaluation.retention import METRICS
from osftx.plan import Plan

LOG_WIDTH = 160
"""Columns where the output is no terminal: a table in a log must not be cut."""


def show_plan(plan: Plan) -> None:
    """One line a phase: what it does, from what, with how much."""
    shown = Table(title=f"Plan of {escape(plan.name)}", title_justify="left")
    for heading in ("phase", "method"):
        shown.add_column(heading, overflow="fold")
    for heading in ("ratio", "learning rate", "samples", "dropped", "tokens", "steps", "trainable", "frozen"):
        shown.add_column(heading, justify="right")
    shown.add_column("starts from", overflow="fold")
    for phase in plan.phases:
        shown.add_row(
            escape(phase.name),
            phase.method,
            "-" if phase.unfreeze_rank_ratio is None else f"{phase.unfreeze_rank_ratio:g}",
            f"{phase.learning_rate:g}",
            *(f"{count:,}" for count in (phase.samples, phase.dropped, phase.tokens, phase.steps)),
            *(f"{count:,}" for count in (phase.trainable_parameters, phase.frozen_parameters)),
            escape(phase.starts_from),
        )
    screen = console()
    screen.print(shown)
    screen.print("tokens: of one epoch; steps: of all epochs", style="dim")
    for phase in plan.phases:
        if phase.keeps is not None:
            screen.print(f"{escape(phase.name)} keeps the inputs of: {escape(phase.keeps)}", style="dim")
    for warning in plan.warnings:
        screen.print(f"warning: {escape(warning)}", style="yellow", highlight=False)


def show_retention(results: dict[str, Any]) -> None:
    """The table of every metric, states by sets, and the three figures."""
    retention = results["retention"]
    screen = console()
    if retention["sets"]:
        shown = Table(title="Exact match (loss)", title_justify="left")
        shown.add_column("after")
        for name in retention["sets"]:
            shown.add_column(escape(name), justify="right")
        exact, loss = (retention["metrics"][metric] for metric in METRICS[:2])
        for state, row, losses in zip(retention["states"], exact, loss, strict=True):
            shown.add_row(escape(state), *(f"{a:.3f} ({b:.3f})" for a, b in zip(row, losses, strict=True)))
        screen.print(shown)
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
    if kept["kept_output_change"] is not None:
        screen.print(f"largest change of a layer's output on kept inputs: {kept['kept_output_change']:.1e}")


def console() -> Console:
    """The screen, or a log wide enough for a table."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=LOG_WIDTH)
