"""Draws the figure of experiments/performance: the cost of OSFT against plain fine-tuning over the unfreeze ratio.

    python benchmarks/draw.py FOLDER OUTPUT.png

FOLDER holds the results of the other benchmarks: `step_cost_<size>*.json`, `memory*.json`, `communication*.json` and
`paper_model.json`. The figure has one panel each for the time of a step, the bytes held and the bytes sent, with one
line per file. Below 1 OSFT is cheaper.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from osftx.report.drawing import STYLE, colour, empty_figure, marker

PANELS = {
    "time of a step": [("step_cost_[0-9]*.json", "against_sft")],
    "bytes between steps": [("memory*.json", "state_against_sft"), ("paper_model.json", "memory_bytes_against_sft")],
    "bytes sent": [("communication*.json", "against_sft"), ("paper_model.json", "sent_bytes_against_sft")],
}
"""Files of each panel, by its title, and the key of the ratio in their rows."""
PAPER_RANKS = 8
"""Number of ranks whose rows of the paper model are drawn; the ratios hardly change with the ranks."""


def points(content: dict[str, Any], key: str) -> list[tuple[float, float]]:
    return [
        (row["unfreeze_rank_ratio"], row[key])
        for row in content["rows"]
        if row["method"] == "osft" and row.get("ranks", PAPER_RANKS) == PAPER_RANKS
    ]


def name(path: Path, content: dict[str, Any]) -> str:
    settings = content["settings"]
    if path.stem == "paper_model":
        return f"8B, on paper, {PAPER_RANKS} ranks"
    ranks = f"{settings['ranks']} rank{'s' if settings['ranks'] > 1 else ''}"
    again = ", recomputed" if settings["checkpointing"] else ""
    tokens = settings["sequences"] * settings["length"]
    return f"hidden {settings['hidden']}, {settings['dtype']}, {tokens} tokens, {ranks}{again}"


def panel(axes: Axes, title: str, folder: Path, sources: list[tuple[str, str]]) -> None:
    files = [(path, key) for pattern, key in sources for path in sorted(folder.glob(pattern))]
    for place, (path, key) in enumerate(files):
        content = json.loads(path.read_text())
        ratios, against = zip(*points(content, key), strict=True)
        axes.plot(ratios, against, color=colour(place), marker=marker(place), markersize=5, label=name(path, content))
    axes.axhline(1.0, color="#666666", linewidth=0.8, linestyle=":")
    axes.set_title(f"{title}, plain fine-tuning = 1")
    axes.set_xlabel("unfreeze ratio")
    axes.set_xticks(sorted({ratio for line in axes.get_lines()[:-1] for ratio in line.get_xdata()}))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    with rc_context(STYLE):
        figure = empty_figure(5.4, 9.6)
        for axes, (title, sources) in zip(figure.subplots(len(PANELS)), PANELS.items(), strict=True):
            panel(axes, title, args.folder, sources)
        figure.savefig(args.output)


if __name__ == "__main__":
    main()
