"""Prints the plan of a run as a table."""

from collections.abc import Callable
from functools import partial

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from osftx.planning.plan import Plan, PlannedPhase
from osftx.utils.console import console


def show_plan(plan: Plan) -> None:
    """Prints the plan with one column per phase, so that two or three phases fit a terminal, and its warnings."""
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
            screen.print(f"{escape(phase.name)} preserves the inputs of: {escape(phase.keeps)}", style="dim")
        if phase.replayed:
            sources = ", ".join(f"{count:,} of {source}" for source, count in phase.replayed.items())
            screen.print(f"{escape(phase.name)} replays {escape(sources)}", style="dim", highlight=False)
    for warning in plan.warnings:
        screen.print(f"warning: {escape(warning)}", style="yellow", highlight=False)


def _size(amount: int | None) -> str:
    """Returns an estimated number of bytes as text."""
    return "-" if amount is None else f"about {decimal(amount)}"


def _part_of_time(part: str, phase: PlannedPhase) -> str:
    return _time(getattr(phase.duration, part, None))


def _time(seconds: float | None) -> str:
    """Returns an estimated number of seconds as text."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return "less than 1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"about {hours} h {minutes} min"
    return f"about {minutes} min {rest} s" if minutes else f"about {rest} s"
