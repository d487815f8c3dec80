"""Whether runs are of one experiment: the same phases, questions and start, so that their numbers can be compared."""

from collections.abc import Iterator, Sequence

from osftx.compare.runs import RunRecord
from osftx.config.phases import start_model, taught_in


def other_experiments(runs: Sequence[RunRecord]) -> Iterator[str]:
    """What makes a run another experiment than the first one, a line each."""
    first, *others = runs
    if not first.results["retention"]["sets"]:
        yield f"{first.folder}: no evaluation sets, so nothing was measured; run it with some (evaluation.sets)"
        return
    for run in others:
        at = f"{run.folder}: another experiment than {first.folder},"
        if run.phases != first.phases:
            yield f"{at} phases {', '.join(run.phases)} instead of {', '.join(first.phases)}; leave one of them out"
        elif sets := list(_other_sets(run, first)):
            yield f"{at} {'; '.join(sets)}; measure both on the same"
        elif not _same_base(run, first):
            path, other = (start_model(one.config)[0] for one in (run, first))
            what = f"model {path} instead of {other}" if path != other else f"{path} was another model then"
            yield f"{at} {what}; leave one of them out"


def repeats(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Runs of one group with the same seed: to count both would make believe in more seeds than there are."""
    seen: dict[tuple[int, ...], RunRecord] = {}
    for run in runs:
        other = seen.setdefault(run.seeds, run)
        if other is not run:
            yield (
                f"{run.folder}: the settings and the seed of {other.folder}, which is no second sample; "
                "leave one of them out"
            )


def _other_sets(run: RunRecord, first: RunRecord) -> Iterator[str]:
    ours, theirs = (one.results["retention"]["sets"] for one in (run, first))
    if set(ours) != set(theirs):
        yield f"evaluation sets {', '.join(ours) or 'none'} instead of {', '.join(theirs)}"
        return
    for name in theirs:
        key = f"evaluation.sets.{name}.path"
        if run.contents.get(key) != first.contents.get(key):
            yield f"other questions in the evaluation set {name} (or another tokenizer or training.max_seq_len)"
        if (taught := taught_in(run.config, name)) != (there := taught_in(first.config, name)):
            yield f"evaluation set {name} learned in {taught} instead of {there}"


def _same_base(run: RunRecord, first: RunRecord) -> bool:
    """By the content of the start model: its folder may have been moved, or changed in place."""
    return bool(run.results["start"] == first.results["start"])
