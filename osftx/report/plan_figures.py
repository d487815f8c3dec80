"""The figure of the plan, `ratio`."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from osftx.report.drawing import WIDTH_INCHES, Drawing, colour, new_figure
from osftx.results.run_record import RunRecord


def plan_drawings(run: RunRecord) -> Iterator[Drawing]:
    """Yields the figure of the unfreeze ratios, with one bar per phase."""
    yield Drawing("ratio", "Unfreeze ratio", "Trainable share of each target's rank, by phase.", ratios(run))


def ratios(run: RunRecord) -> Figure:
    """Returns the figure of the unfreeze ratios. `sft` trains every weight, so its bar is full and grey."""
    figure, axes = new_figure(WIDTH_INCHES, 0.8 + 0.35 * len(run.phases))
    for place, phase in enumerate(run.phases):
        ratio = phase.plan["unfreeze_rank_ratio"]
        is_sft = ratio is None
        axes.barh(place, 1.0 if is_sft else ratio, height=0.6, color="#cccccc" if is_sft else colour(place))
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
