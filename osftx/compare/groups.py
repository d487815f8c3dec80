"""Groups runs that differ only in the seed, and labels each group by what distinguishes it from the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from osftx.compare.runs import LabelledRun
from osftx.compare.same import repeats
from osftx.config.identity import EVERY_PHASE, Use, counting, without
from osftx.config.phases import phases_to_run
from osftx.config.schema import ExperimentConfig
from osftx.methods.registry import built_in, method_named
from osftx.results.run_record import RunRecord

Settings = dict[str, str]
"""Values of a run as text, by configuration key; a missing key has no effect in this run."""

TELLING = ("phases.*.method", "osft.subspace", "phases.*.unfreeze_rank_ratio", "phases.*.learning_rate")
"""Settings that describe a group best, if they differ."""


@dataclass
class Group:
    """Runs that differ only in the seed."""

    label: str
    runs: list[RunRecord]
    settings: Settings
    """Settings that are not the same in all groups."""
    given_label: str | None
    """Label given on the command line; None if none was given."""


def groups_of(labelled: Sequence[LabelledRun]) -> list[Group]:
    """Returns the groups, in the order of their first runs."""
    settings = _settings_of_all([one.run for one in labelled])
    together: dict[Any, list[int]] = {}
    for place, one in enumerate(labelled):
        together.setdefault((one.label, tuple(sorted(settings[place].items()))), []).append(place)
    members = [[labelled[place] for place in places] for places in together.values()]
    differing = _differing([settings[places[0]] for places in together.values()])
    return [
        Group(label, [one.run for one in own], own_settings, own[0].label)
        for label, own, own_settings in zip(_labels(members, differing), members, differing, strict=True)
    ]


def group_problems(groups: Sequence[Group]) -> Iterator[str]:
    """Yields a problem for each run that repeats another one, and for each label shared by runs of several settings."""
    for group in groups:
        yield from repeats(group.runs)
    for label in dict.fromkeys(group.given_label for group in groups):
        own = [group.settings for group in groups if group.given_label == label]
        keys = dict.fromkeys(key for settings in own for key in settings)
        if label is not None and len(own) > 1:
            differing = [short(key) for key in keys if len({settings.get(key) for settings in own}) > 1]
            yield f"--label {label}: its runs differ in {', '.join(differing)}; give each a label of its own"


def settings_of(run: RunRecord) -> Settings:
    """Returns every setting that affects the run's models, except start model and seed, as text by key."""
    settings = without(counting(asdict(run.config), Use.COMPARISON), keys_without_effect(run.config))
    phases = settings.pop("phases")
    ran = {name: phases[name] | {"unfreeze_rank_ratio": run.ratios[name]} for name in run.phase_names}
    return _flat(settings | {"phases": ran})


def keys_without_effect(config: ExperimentConfig) -> set[str]:
    """Returns the keys and groups that have no effect in a run, given its methods."""
    used = {method_named(phase.method) for _, _, phase in phases_to_run(config)}
    found = {group for method in built_in() if method not in used for group in method.groups}
    return found.union(*(method.unread(config) for method in used))


def short(key: str) -> str:
    """Returns the short form of a key for labels: `skills.learning_rate`, or `method` if it holds for every phase."""
    return key.removeprefix(EVERY_PHASE).removeprefix("phases.").removeprefix("osft.")


def _settings_of_all(runs: Sequence[RunRecord]) -> list[Settings]:
    """Returns the settings of each run. Data is named by the path under which its content first appeared."""
    names: dict[str, str] = {}
    found = []
    for run in runs:
        settings, contents = settings_of(run), run.contents
        for key in settings.keys() & contents.keys():
            content = contents[key]
            if content not in names:
                taken = settings[key] in names.values()
                names[content] = f"{settings[key]} ({content[:8]})" if taken else settings[key]
            settings[key] = names[content]
        found.append(settings)
    return found


def _differing(settings: Sequence[Settings]) -> list[Settings]:
    """Returns the settings of each group that are not the same in all groups.

    A setting that every group has alike in all of its phases is merged into one key.
    """
    in_phases = [key.split(".", maxsplit=2)[1:] for one in settings for key in one if key.startswith("phases.")]
    names = {name for name, _ in in_phases}
    alike = {
        rest
        for _, rest in in_phases
        if all(len({one.get(f"phases.{name}.{rest}") for name in names}) == 1 for one in settings)
    }
    merged = [{_merged(key, alike): value for key, value in one.items()} for one in settings]
    keys = dict.fromkeys(key for one in merged for key in one)
    differing = [key for key in keys if len({one.get(key) for one in merged}) > 1]
    return [{key: one[key] for key in differing if key in one} for one in merged]


def _merged(key: str, alike: set[str]) -> str:
    if key.startswith("phases.") and (rest := key.split(".", maxsplit=2)[2]) in alike:
        return f"{EVERY_PHASE}{rest}"
    return key


def _labels(groups: Sequence[Sequence[LabelledRun]], differing: Sequence[Settings]) -> list[str]:
    """Returns the labels: those of the user, else the names of the experiments if these differ, else the settings."""
    names = [{one.run.config.name for one in group} for group in groups]
    named = [next(iter(own)) for own in names if len(own) == 1]
    found = named if len(set(named)) == len(groups) else _by_settings(differing)
    if len(groups) == 1:
        found = [groups[0][0].run.config.name]
    labels: list[str] = []
    for group, label in zip(groups, found, strict=True):
        wanted = group[0].label or label
        count = sum(wanted in (other, other.rpartition(" #")[0]) for other in labels)
        labels.append(f"{wanted} #{count + 1}" if count else wanted)
    return labels


def _by_settings(differing: Sequence[Settings]) -> list[str]:
    """Returns labels with just enough settings to distinguish the groups, those in `TELLING` first."""
    chosen: list[str] = []
    keys = dict.fromkeys(key for one in differing for key in one)
    for key in [*(key for key in TELLING if key in keys), *(key for key in keys if key not in TELLING)]:
        if _kinds(differing, [*chosen, key]) > _kinds(differing, chosen):
            chosen.append(key)
    words = [[f"{short(key)}={_value(one[key])}" for key in chosen if key in one] for one in differing]
    return [", ".join(own) or "as it is" for own in words]


def _kinds(differing: Sequence[Settings], keys: list[str]) -> int:
    return len({tuple(one.get(key) for key in keys) for one in differing})


def _value(text: str) -> str:
    """Returns a number with four significant digits, or the last part of a path."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return Path(text).name or text


def _flat(settings: Mapping[str, Any], path: str = "") -> Settings:
    """Returns the settings by full key, as text; unset values (null, an empty list) are left out."""
    flat: Settings = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{key}.")
        elif value is not None and value != []:
            flat[f"{path}{key}"] = str(value.value if isinstance(value, Enum) else value)
    return flat
