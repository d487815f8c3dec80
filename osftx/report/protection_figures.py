"""The figures of the protection: `leak`, and `free_rank` if ranks differ between layers."""

import re
from collections import defaultdict
from collections.abc import Iterator
from math import floor, log10
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from osftx.report.drawing import WIDTH_INCHES, Drawing, add_legend, colour, empty_figure, marker, new_figure
from osftx.results.run_record import PhaseRecord, RunRecord

MOST_MARKED = 40
"""Largest number of layers whose points get markers; with more layers the markers would hide the lines."""


LOOKS: dict[str, dict[str, Any]] = {
    "leak_fp32": {"label": "as trained", "linestyle": "--", "markerfacecolor": "white", "markersize": 7},
    "leak_saved": {"label": "as saved", "linestyle": "-", "markersize": 4},
}


class Place(NamedTuple):
    """The position of a weight in the model: `model.layers.12.mlp.up_proj` is the `mlp.up_proj` of layer 12."""

    layer: int
    kind: str


def protection_drawings(run: RunRecord) -> Iterator[Drawing]:
    """Yields the figures for which the run has data."""
    if _measured_leaks(run):
        text = (
            "Share of the update that lies in frozen directions, of the worst weight in each layer; lower is better. "
            "Filled and solid as saved, hollow and dashed as trained. The axis is logarithmic."
        )
        yield Drawing("leak", "Leak by layer", text, leaks(run))
    if phases := [phase for phase in run.phases if _has_own_ranks(phase)]:
        text = "Trainable share of the rank of every weight: light is freer. Rows are kinds of weights, columns layers."
        yield Drawing("free_rank", "Free share by layer", text, free_shares(run, phases))


def leaks(run: RunRecord) -> Figure:
    """Returns the figure of the worst leak in each layer, with two lines per phase: as trained and as saved."""
    figure, axes = new_figure(WIDTH_INCHES, 3.4)
    for number, phase in enumerate(run.phases):
        by_layer: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for target, place in _placed(phase):
            by_layer[place.layer].append(target)
        layers = sorted(by_layer)
        marks = marker(number) if len(layers) <= MOST_MARKED else ""
        for key, look in LOOKS.items():
            if layers:
                worst = [max(target[key] for target in by_layer[layer]) for layer in layers]
                name = f"{phase.label}, {look['label']}"
                axes.plot(layers, worst, **{**look, "label": name}, color=colour(number), marker=marks, linewidth=1.3)
    axes.set_yscale("log")
    measured = _measured_leaks(run)
    axes.set_ylim(10 ** floor(log10(min(measured))), 10 ** (floor(log10(max(measured))) + 1))
    axes.yaxis.set_major_formatter("{x:.0e}")  # the default one writes powers in mathtext, which is off
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel("leak")
    axes.grid(axis="y")
    add_legend(figure)
    return figure


def free_shares(run: RunRecord, phases: list[PhaseRecord]) -> Figure:
    """Returns one heat map per phase, kinds of weights by layers, all on the same scale from 0."""
    shares = [_shares(phase) for phase in phases]
    most = max(max(by_place.values()) for by_place in shares)
    kinds = list(dict.fromkeys(place.kind for place in shares[0]))
    layers = sorted({place.layer for place in shares[0]})
    figure = empty_figure(WIDTH_INCHES, len(phases) * (0.8 + 0.24 * len(kinds)))
    for number, (phase, by_place) in enumerate(zip(phases, shares, strict=True)):
        axes = figure.add_subplot(len(phases), 1, number + 1)
        values = [[by_place.get(Place(layer, kind), float("nan")) for layer in layers] for kind in kinds]
        edges = (layers[0] - 0.5, layers[-1] + 0.5, len(kinds) - 0.5, -0.5)
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=most, aspect="auto", extent=edges)
        axes.set_title(phase.label)
        axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if number == len(phases) - 1:
            axes.set_xlabel("layer")
    figure.colorbar(image, ax=figure.axes, label="trainable share of the rank").outline.set_visible(False)
    return figure


def _placed(phase: PhaseRecord) -> Iterator[tuple[dict[str, Any], Place]]:
    for number, target in enumerate(phase.targets):
        found = re.search(r"\.(\d+)\.(.+)", target["name"])
        yield target, Place(int(found[1]), found[2]) if found else Place(number, target["name"])


def _shares(phase: PhaseRecord) -> dict[Place, float]:
    """Returns the trainable share of the rank of each target, by its position."""
    return {
        place: target["free_rank"] / max(target["free_rank"] + target["frozen_rank"], 1)
        for target, place in _placed(phase)
    }


def _has_own_ranks(phase: PhaseRecord) -> bool:
    """Returns whether the number of trainable directions of the same kind of weight differs between layers."""
    free: dict[Any, set[int]] = defaultdict(set)
    for target, place in _placed(phase):
        free[place.kind, tuple(target["shape"])].add(target["free_rank"])
    return any(len(ranks) > 1 for ranks in free.values())


def _measured_leaks(run: RunRecord) -> list[float]:
    """Returns all leaks above zero; a logarithmic axis cannot show zero."""
    return [target[key] for phase in run.phases for target in phase.targets for key in LOOKS if target[key] > 0]
