"""The entry of one phase in `results.json`, made from the `result.json` that the ranks wrote. Pure."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec

Json = dict[str, Any]


def phase_summary(spec: PhaseSpec, result: Json, run_folder: Path) -> Json:
    """Returns the entry of a finished phase in results.json, without its curve."""
    return {
        "name": spec.name,
        "method": spec.method,
        "unfreeze_rank_ratio": spec.unfreeze_rank_ratio,
        "checkpoint": str(spec.checkpoint.relative_to(run_folder)),
        "fingerprint": result["fingerprint"],
        "reused": result["reused"],
        "steps": result["steps"],
        "tokens": result["tokens"],
        "duration_s": result["duration_s"],
        "validation": result.get("validation"),
        "fill": result.get("fill"),
        "preservation": _preservation(with_subspace(result["targets"])) | {"free_shares": _free_shares(spec, result)},
    }


def curve(result: Json, before: Json) -> list[Json]:
    """Returns the scores of the sets from the state before the phase, `before`, to the state that the phase saves.

    The list is empty unless the sets were measured in between. The saved state may be earlier than the last one.
    """
    if result.get("curve") is None:
        return []
    last = (result.get("validation") or {}).get("checkpoint_step", result["steps"])
    between = [point for point in result["curve"] if point["step"] < last]
    return [{"step": 0, "evaluation": before}, *between, {"step": last, "evaluation": result["evaluation"]}]


def with_subspace(targets: Iterable[Json]) -> list[Json]:
    """Returns the entries of `targets` in result.json that hold the measures of a subspace."""
    return [target for target in targets if "leak_saved" in target]


def _preservation(targets: Sequence[Json]) -> Json:
    """Returns the worst value of each measure over all targets; None for what was not measured."""
    worst = max(targets, key=lambda target: target["leak_saved"], default=None)
    return {
        "leak_fp32": _largest(targets, "leak_fp32"),
        "leak_saved": worst["leak_saved"] if worst else None,
        "worst_weight": worst["name"] if worst else None,
        "free_input_share": _largest(targets, "free_input_share"),
        "kept_output_change": _largest(targets, "kept_output_change"),
        "update_kept": _update_kept(targets),
    }


def _free_shares(spec: PhaseSpec, result: Json) -> Json | None:
    """Returns the result of `foresight.free_shares` with the sets by name.

    Sets that a reused phase did not measure are left out.
    """
    if (shares := result.get("free_shares")) is None:
        return None
    sets = {name: shares["sets"].get(Path(path).name) for name, path in spec.evaluation_sets.items()}
    return {"taught": shares["taught"], "sets": {name: share for name, share in sets.items() if share is not None}}


def _largest(targets: Sequence[Json], key: str) -> float | None:
    return max((target[key] for target in targets if target[key] is not None), default=None)


def _update_kept(targets: Sequence[Json]) -> float | None:
    """Returns the share of the update that is in the saved weights, over all targets together."""
    trained = [target for target in targets if target["update_kept"] is not None]
    squared = sum(target["update_norm"] ** 2 for target in trained)
    return sum(target["update_kept"] * target["update_norm"] ** 2 for target in trained) / squared if trained else None
