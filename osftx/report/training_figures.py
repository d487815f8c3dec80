"""The figures of the training: `loss`, `learning_rate`, `throughput` and `memory`."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from osftx.report.drawing import WIDTH_INCHES, Drawing, add_legend, colour, marker, new_figure
from osftx.results.run_record import Json, PhaseRecord, RunRecord

HEIGHT_INCHES = 2.9


def training_drawings(run: RunRecord) -> Iterator[Drawing]:
    """Yields the figures for which the run has data."""
    if not any(phase.steps for phase in run.phases):
        return
    text = "Mean loss of the counted tokens, at each optimizer step"
    text += "; with markers, on samples that are not trained on." if any(map(validated, run.phases)) else "."
    yield Drawing("loss", "Training loss", text, loss(run))
    text = "Learning rate at each optimizer step."
    yield Drawing("learning_rate", "Learning rate", text, over_steps(run, "lr", "learning rate"))
    text = "Tokens per second of all ranks together, at each optimizer step; dashed, the median of the phase."
    yield Drawing("throughput", "Throughput", text, throughput(run))
    if any(phase.peak_memory_gb for phase in run.phases):
        text = "The most memory that rank 0 has held, by phase."
        yield Drawing("memory", "Peak memory", text, peak_memory(run))


def over_steps(run: RunRecord, key: str, label: str) -> Figure:
    """Returns a value of `metrics.jsonl` over the optimizer steps of all phases in sequence."""
    figure, axes = new_figure(WIDTH_INCHES, HEIGHT_INCHES)
    for place, (phase, begin) in enumerate(zip(run.phases, run.steps_before, strict=True)):
        if phase.steps:
            steps = [begin + step["step"] for step in phase.steps]
            values = [step[key] for step in phase.steps]
            marker = "." if len(steps) == 1 else ""
            axes.plot(steps, values, color=colour(place), label=phase.label, linewidth=1.3, marker=marker)
            axes.axvline(steps[-1], color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    add_legend(figure)
    return figure


def loss(run: RunRecord) -> Figure:
    """Returns the training loss over the steps, with the validation loss if it was measured."""
    figure = over_steps(run, "loss", "loss")
    (axes,) = figure.axes
    for place, (phase, begin) in enumerate(zip(run.phases, run.steps_before, strict=True)):
        if points := validated(phase):
            steps, losses = [begin + step["step"] for step in points], [step["val_loss"] for step in points]
            axes.plot(steps, losses, "--", color=colour(place), linewidth=1, marker=marker(place), markersize=4)
    return figure


def validated(phase: PhaseRecord) -> list[Json]:
    """Returns the steps after which the validation loss was measured."""
    return [step for step in phase.steps if "val_loss" in step]


def throughput(run: RunRecord) -> Figure:
    """Returns the tokens per second over the steps, with the median of each phase as shown in the table."""
    figure = over_steps(run, "tokens_per_second", "tokens/s")
    (axes,) = figure.axes
    for place, (phase, begin) in enumerate(zip(run.phases, run.steps_before, strict=True)):
        if (median := phase.tokens_per_second) is not None:
            axes.plot([begin, begin + phase.last_step], [median, median], "--", color=colour(place), linewidth=1)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def peak_memory(run: RunRecord) -> Figure:
    """Returns the peak memory of rank 0 in GB, with one bar per phase."""
    figure, axes = new_figure(WIDTH_INCHES, 0.8 + 0.35 * len(run.phases))
    amounts = [phase.peak_memory_gb or 0.0 for phase in run.phases]
    bars = axes.barh(range(len(amounts)), amounts, height=0.6, color=[colour(n) for n in range(len(amounts))])
    axes.bar_label(bars, fmt="%.3g", padding=4)
    axes.set_yticks(range(len(amounts)), [phase.label for phase in run.phases])
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel("GB")
    axes.invert_yaxis()
    axes.grid(axis="x")
    return figure
