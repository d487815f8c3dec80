"""Shows the retention table and the measures of protection on the screen."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from osftx.results.retention import METRICS
from osftx.utils.console import console

ENOUGH_KEPT = 0.9
"""Share of a phase's update in the saved weights below which a warning is shown."""


def _show_against_base(compared: dict[str, Any] | None) -> None:
    """Shows how far the last state is from the start model on the start model's own answers."""
    if compared is None:
        return
    last = (compared[figure][-1] for figure in ("kl_to_base", "token_agreement", "unchanged_answers"))
    for name, divergence, agreement, unchanged in zip(compared["sets"], *last, strict=True):
        console().print(
            f"against the start model on {escape(name)}: KL {divergence:.2e} nats per token, {agreement:.3f} of the "
            f"tokens agree, {unchanged:.3f} of the answers are unchanged",
            highlight=False,
        )


def show_retention(results: dict[str, Any]) -> None:
    """Shows the table of exact match and loss, states by sets and benchmarks, and the summary figures."""
    retention = results["retention"]
    screen = console()
    benchmarks = retention.get("benchmarks") or {
        "tasks": [],
        "metrics": {},
        "values": [[] for _ in retention["states"]],
    }
    generated = retention.get("generated") or {"sets": [], "scores": {}, "values": [[] for _ in retention["states"]]}
    if retention["sets"] or benchmarks["tasks"]:
        shown = Table(title="Exact match (loss)" if retention["sets"] else "Benchmarks", title_justify="left")
        shown.add_column("after")
        for name in retention["sets"]:
            shown.add_column(escape(name), justify="right")
        for name in generated["sets"]:
            shown.add_column(
                escape(f"{name}\ngenerated, {generated['scores'][name]}"), justify="right", overflow="fold"
            )
        for name in benchmarks["tasks"]:
            shown.add_column(escape(f"{name}\n{benchmarks['metrics'][name]}"), justify="right", overflow="fold")
        exact, loss = (retention["metrics"][metric] for metric in METRICS[:2])
        rows = zip(retention["states"], exact, loss, generated["values"], benchmarks["values"], strict=True)
        for state, row, losses, answered, scores in rows:
            cells = [f"{a:.3f} ({b:.3f})" for a, b in zip(row, losses, strict=True)]
            shown.add_row(escape(state), *cells, *(f"{score:.3f}" for score in (*answered, *scores)))
        screen.print(shown)
    if retention["sets"]:
        figures = [
            f"{key.replace('_', ' ')} {value:.3f}" for key, value in results["summary"].items() if value is not None
        ]
        screen.print(", ".join(figures), highlight=False)
    for name, cut_off in zip(generated["sets"], generated["cut_off"][-1] if generated["sets"] else [], strict=True):
        if cut_off:
            screen.print(
                f"{cut_off} answers to {escape(name)} were cut off at evaluation.sets.{escape(name)}.max_new_tokens",
                highlight=False,
            )
    _show_against_base(retention.get("against_base"))
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
            f"largest change of a layer's output on preserved inputs: {kept['kept_output_change']:.1e} "
            f"(largest subspace overlap of these: {kept['free_input_share']:.1e})",
            highlight=False,
        )
    if kept["free_shares"] is not None:
        shares = {"what is taught": kept["free_shares"]["taught"], **kept["free_shares"]["sets"]}
        told = ", ".join(f"{share:.2g} of {escape(name)}" for name, share in shares.items())
        screen.print(f"subspace overlap: {told}", highlight=False)
