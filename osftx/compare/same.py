"""Checks that runs can be compared, as one experiment with the same phases, questions and start model."""

from collections.abc import Iterator, Sequence

from osftx.config.phases import start_model
from osftx.results.run_record import RunRecord


def other_experiments(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yields why a run is not the same experiment as the first one, one line per run."""
    first, *others = runs
    if not first.retention["sets"]:
        yield f"{first.folder}: no evaluation sets, so nothing was measured; run it with some (evaluation.sets)"
        return
    for run in others:
        at = f"{run.folder}: another experiment than {first.folder},"
        if run.phase_names != first.phase_names:
            own, other = (", ".join(one.phase_names) for one in (run, first))
            yield f"{at} phases {own} instead of {other}; leave one of them out"
        elif sets := list(_other_sets(run, first)):
            yield f"{at} {'; '.join(sets)}; measure both on the same"
        elif not _same_base(run, first):
            path, other = (start_model(one.config)[0] for one in (run, first))
            what = f"model {path} instead of {other}" if path != other else f"{path} was another model then"
            yield f"{at} {what}; leave one of them out"


def repeats(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yields one line for each run of a group that repeats the seed of another run.

    Counting both would claim more seeds than there are.
    """
    seen: dict[tuple[int, ...], RunRecord] = {}
    for run in runs:
        other = seen.setdefault(run.seeds, run)
        if other is not run:
            yield (
                f"{run.folder}: the settings and the seed of {other.folder}, which is no second sample; "
                "leave one of them out"
            )


def _other_sets(run: RunRecord, first: RunRecord) -> Iterator[str]:
    ours, theirs = (one.retention["sets"] for one in (run, first))
    if set(ours) != set(theirs):
        yield f"evaluation sets {', '.join(ours) or 'none'} instead of {', '.join(theirs)}"
        return
    for name in theirs:
        key = f"evaluation.sets.{name}.path"
        if run.contents.get(key) != first.contents.get(key):
            yield f"other questions in the evaluation set {name} (or another tokenizer or training.max_seq_len)"
        if (taught := run.taught_in[name]) != (there := first.taught_in[name]):
            yield f"evaluation set {name} learned in {taught} instead of {there}"


def _same_base(run: RunRecord, first: RunRecord) -> bool:
    """Returns whether both start from the same model, by content: a folder may be moved or changed in place."""
    return bool(run.results["start"] == first.results["start"])
