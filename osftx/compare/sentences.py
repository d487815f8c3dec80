"""The comparison in words: one plain sentence per group, and the limits of the comparison."""

from collections.abc import Iterator

from osftx.compare.comparison import SAME_LEARNING, ComparedGroup, Comparison, learned_alike, learned_otherwise
from osftx.compare.curves import ALL
from osftx.compare.statistics import Estimate


def answer(comparison: Comparison, group: ComparedGroup) -> str:
    """Returns a sentence that says whether the group keeps more than the reference at the same learning."""
    reference = comparison.reference
    kept = group.kept[ALL]
    if group.learning is None or kept is None:
        most = max(run.highest_learning for run in group.runs)
        return f"{group.label} never reaches {comparison.level:.3f} in {comparison.phase} (at most {most:.3f})."
    where = f"at {comparison.phase} accuracy {group.learning.mean:.3f}"
    if group is reference:
        alone = len(comparison.groups) == 1
        role = "there is no other group to compare it with" if alone else "the others are compared with it"
        return f"{group.label} keeps {value(kept)} {where} ({seeds(kept.count)}); {role}."
    if comparison.nothing_learned:
        return f"{group.label}: no answer, since {where} some run has not learned anything yet."
    difference = group.difference[ALL]
    if difference is None:
        return f"{group.label} keeps {value(kept)} {where}, which {reference.label} never reaches."
    said = _kept_against(group.label, reference.label, difference, where)
    if comparison.level is None:
        said = _at_the_end(comparison, group, difference)
    for phase, (own, other) in learned_otherwise(group, reference).items():
        # Keeping more despite learning more, or less despite learning less, strengthens the result.
        joint = "although" if difference.mean * (own - other) > 0 else "but"
        learned = "less" if own < other else "more"
        said += f", {joint} {phase} had been learned {learned} ({own:.3f} against {other:.3f})"
    return f"{said}."


def notes(comparison: Comparison) -> Iterator[str]:
    """Yields the limits of the comparison, one sentence each."""
    groups, level = comparison.groups, comparison.level
    if level is None:
        folders = comparison.no_curve
        which = "any run" if len(folders) == sum(group.seeds for group in groups) else ", ".join(folders)
        yield (
            f"There is no curve of {which}, so only the states after {comparison.phase} can be compared, each at the "
            "learning that it has. Runs with evaluation.every_steps=N can be compared at the same learning."
        )
        apart = [group for group in groups[1:] if not learned_alike(group, comparison.reference)]
        for group in apart:
            assert group.learning is not None and comparison.reference.learning is not None
            yield (
                f"The comparison is not at the same learning: {group.label} ends at {group.learning.mean:.3f}, "
                f"{comparison.reference.label} at {comparison.reference.learning.mean:.3f} (more than {SAME_LEARNING} "
                "apart). Less learned is less forgotten."
            )
    else:
        yield from _about_the_level(comparison, level)
    for group in groups[1:]:
        for phase, (own, other) in learned_otherwise(group, comparison.reference).items():
            yield (
                f"{phase} was not learned alike before: {own:.3f} by {group.label}, {other:.3f} by "
                f"{comparison.reference.label}. Less learned there may be less forgotten of what came before it."
            )
    single = [group.label for group in groups if group.seeds == 1]
    if single:
        yield f"One seed, so no interval: {'; '.join(single)}. What a single seed shows may be chance."
    if len(groups) > 2:
        yield "Each interval holds for itself with 95%; of many groups some differ by chance alone."
    if any(run.reused for group in groups for run in group.runs):
        yield "* Phases were reused; their time is that of their training, in the run that did it."
    if comparison.other_hardware:
        yield "The runs were on different numbers or kinds of devices, so time and memory cannot be compared."
    yield from (f"{text}." for text in comparison.left_out)


def value(estimate: Estimate, form: str = ".3f") -> str:
    """Returns mean ± half-width as text, or the mean alone if there is no interval."""
    mean = format(estimate.mean, form)
    return mean if estimate.half_width is None else f"{mean} ± {format(estimate.half_width, form)}"


def seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def interval(difference: Estimate, sign: int = 1, form: str = ".3f") -> str:
    """Returns `low to high` for the interval of the difference, or of its opposite with `sign` -1."""
    assert difference.half_width is not None
    low, high = sorted(sign * (difference.mean + side * difference.half_width) for side in (-1, 1))
    return f"{format(low, form)} to {format(high, form)}"


def _kept_against(label: str, reference: str, difference: Estimate, where: str) -> str:
    sign = 1 if difference.mean > 0 else -1
    more = f"{abs(difference.mean):.3f} {'more' if sign > 0 else 'less'} than" if difference.mean else "as much as"
    if difference.count == 0:
        return f"{label} keeps {more} {reference} {where}, with no seed in common: no interval, so it may be chance"
    if difference.half_width is None:
        alike = "" if difference.count == 1 else ", all alike"
        return f"{label} keeps {more} {reference} {where}, by {seeds(difference.count)}{alike}: no interval"
    if difference.excludes_zero:
        how_sure = f"95% interval {interval(difference, sign)}, {seeds(difference.count)}"
        return f"{label} keeps {more} {reference} {where} ({how_sure})"
    return (
        f"No difference that {seeds(difference.count)} can show between {label} and {reference} {where} "
        f"({difference.mean:+.3f}, 95% interval {interval(difference, form='+.3f')})"
    )


def _at_the_end(comparison: Comparison, group: ComparedGroup, difference: Estimate) -> str:
    """Returns the sentence about the end points, at which learning may differ.

    Without matched learning, only a group that keeps more *and* has learned more shows an advantage.
    """
    reference = comparison.reference
    assert group.learning is not None and reference.learning is not None
    own, other = group.learning.mean, reference.learning.mean
    both = f"{own:.3f} against {other:.3f}"
    said = _kept_against(group.label, reference.label, difference, f"after {comparison.phase}, at learning {both}")
    if learned_alike(group, reference):
        return said
    learned = "more" if own > other else "less"
    if difference.mean * (own - other) > 0:
        return f"{said}, although it has learned {learned}"
    return f"{said}, which says nothing at the same learning: it has learned {learned}"


def _about_the_level(comparison: Comparison, level: float) -> Iterator[str]:
    runs = [(group, run) for group in comparison.groups for run in group.runs]
    if comparison.nothing_learned:
        yield (
            f"The level {level:.3f} is no higher than what is known before {comparison.phase} (up to "
            f"{comparison.start:.3f}): nothing learned is compared. Leave out the runs that learn nothing, or give "
            "--at LEVEL."
        )
    if not comparison.chosen:
        others = [run.highest_learning for _, run in runs if run.highest_learning > level + SAME_LEARNING]
        if others:
            first = next(run for _, run in runs if run.compared is not None and run.highest_learning == level)
            yield (
                f"The level is the most that {first.folder} learns; {len(others)} of {len(runs)} runs learn more, up "
                f"to {max(others):.3f}. --at LEVEL compares those that reach another level."
            )
    for group in comparison.groups:
        reach = sum(run.compared is not None for run in group.runs)
        if 0 < reach < group.seeds:
            yield f"Only {reach} of the {group.seeds} seeds of {group.label} reach {level:.3f}; the rest is left out."
