"""The figures of a report, as PNG files: what was kept, how training went, how the ratio was scheduled.

A phase has one colour in all of them, from Okabe and Ito's palette: colour-blind readers can tell them apart.
"""

from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from osftx.report.run import Run

STYLE: dict[Any, Any] = {  # matplotlib's key type differs between its versions
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "text.parse_math": False,  # names may hold a dollar sign
    "savefig.dpi": 160,
}
WIDTH_INCHES = 6.0
PHASE_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"]
LONGEST_LEVEL_NAME = 8
"""Characters; longer names of columns are slanted."""


class Picture(NamedTuple):
    """A drawn figure; `text` says in words what it shows."""

    path: Path
    title: str
    text: str


def draw(run: Run, folder: Path) -> dict[str, Picture]:
    """Draw what the run has data for into `folder`: `retention`, `ratio`, `loss`, `learning_rate`."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Picture] = {}

    def add(name: str, title: str, text: str, figure: Figure) -> None:
        path = folder / f"{name}.png"
        figure.savefig(path)
        pictures[name] = Picture(path, title, text)

    with rc_context(STYLE):
        if run.retention["sets"]:
            text = "Exact match on each evaluation set (columns) at each state of the model (rows)."
            add("retention", "What was learned and kept", text, retention(run))
        add("ratio", "Unfreeze ratio", "Trainable share of each target's rank, by phase.", ratios(run))
        if any(phase.steps for phase in run.phases):
            text = "Mean loss of the counted tokens, at each optimizer step."
            add("loss", "Training loss", text, over_steps(run, "loss", "loss"))
            text = "Learning rate at each optimizer step."
            add("learning_rate", "Learning rate", text, over_steps(run, "lr", "learning rate"))
    return pictures


def retention(run: Run) -> Figure:
    """Heat map of exact match, states by sets; one colour scale, 0 to 1, for all runs."""
    sets, states = run.retention["sets"], run.retention["states"]
    values = run.retention["metrics"]["exact_match"]
    figure, axes = new_figure(max(WIDTH_INCHES, 1.8 + 0.8 * len(sets)), 1.3 + 0.45 * len(states))
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            ink = "black" if value > 0.5 else "white"
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=ink)
    slanted = any(len(name) > LONGEST_LEVEL_NAME for name in sets)
    axes.set_xticks(range(len(sets)), sets, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(states)), [state if i == 0 else f"after {state}" for i, state in enumerate(states)])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="exact match").outline.set_visible(False)
    return figure


def ratios(run: Run) -> Figure:
    """One bar a phase; `sft` trains everything, so its bar is full and grey."""
    figure, axes = new_figure(WIDTH_INCHES, 1.0 + 0.4 * len(run.phases))
    for place, phase in enumerate(run.phases):
        ratio = phase.plan["unfreeze_rank_ratio"]
        is_sft = ratio is None
        axes.barh(place, 1.0 if is_sft else ratio, height=0.6, color="#cccccc" if is_sft else _colour(place))
        if is_sft:
            axes.text(0.02, place, "sft: every weight", va="center")
        else:
            inside = ratio > 0.85
            axes.text(
                ratio + (-0.02 if inside else 0.02),
                place,
                f"{ratio:g}",
                va="center",
                ha="right" if inside else "left",
                color="white" if inside else "black",
            )
    axes.set_yticks(range(len(run.phases)), [phase.label for phase in run.phases])
    axes.set_xlim(0, 1)
    axes.set_xlabel("trainable share of the rank")
    axes.invert_yaxis()
    axes.grid(axis="x")
    return figure


def over_steps(run: Run, key: str, label: str) -> Figure:
    """A value of `metrics.jsonl` over the optimizer steps of all phases, one after the other."""
    figure, axes = new_figure(WIDTH_INCHES, 3.0)
    begin = 0
    for place, phase in enumerate(run.phases):
        if phase.steps:
            steps = [begin + step["step"] for step in phase.steps]
            values = [step[key] for step in phase.steps]
            marker = "." if len(steps) == 1 else ""
            axes.plot(steps, values, color=_colour(place), label=phase.label, linewidth=1.3, marker=marker)
            begin = steps[-1]
            axes.axvline(begin, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """An empty figure; without pyplot there is no global state, no display and nothing to close."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.add_subplot()


def _colour(place: int) -> str:
    return PHASE_COLOURS[place % len(PHASE_COLOURS)]
