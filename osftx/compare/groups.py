"""Put runs together that differ in the seed alone, and call each group by what tells it from the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from osftx.compare.runs import RunRecord
from osftx.compare.same import repeats
from osftx.config.phases import phases_to_run
from osftx.config.schema import ExperimentConfig
from osftx.methods.registry import built_in, method_named

Settings = dict[str, str]
"""By key of the configuration; a key that is not there decides nothing in this run."""

# What each phase has taken over from them is in the phase, and evaluation sets are compared by content.
ELSEWHERE = {"training", "schedule", "phase_order", "phases", "evaluation"}
# How a run is called, kept, reported and spread over machines.
IRRELEVANT = {
    *("name", "output_dir", "store_dir", "reuse", "objective", "dry_run"),
    *("sweep", "checkpointing", "distributed"),
}
# The start model is compared by its content; the rest of these keys changes rounding, or nothing.
IRRELEVANT_KEYS = {"model.path", "model.revision", "model.trust_remote_code", "osft.save_bases"}
IRRELEVANT_IN_A_PHASE = {"seed", "init_from", "max_tokens_per_gpu", "activation_checkpointing"}

EVERY_PHASE = "phases.*."
TELLING = ("phases.*.method", "osft.subspace", "phases.*.unfreeze_rank_ratio", "phases.*.learning_rate")
"""What names a group best, where it differs."""


@dataclass
class Group:
    label: str
    runs: list[RunRecord]
    settings: Settings
    """Those that are not the same in all groups."""


def groups_of(runs: Sequence[RunRecord]) -> list[Group]:
    """The groups, in the order of their first runs."""
    settings = _settings_of_all(runs)
    together: dict[Any, list[int]] = {}
    for place, run in enumerate(runs):
        together.setdefault((run.label, tuple(sorted(settings[place].items()))), []).append(place)
    members = list(together.values())
    differing = _differing([settings[places[0]] for places in members])
    labels = _labels([[runs[place] for place in places] for places in members], differing)
    return [
        Group(label, [runs[place] for place in places], own)
        for label, places, own in zip(labels, members, differing, strict=True)
    ]


def group_problems(groups: Sequence[Group]) -> Iterator[str]:
    """Repeated runs, and labels over runs of several settings, which would hide what they differ in."""
    for group in groups:
        yield from repeats(group.runs)
    for label in dict.fromkeys(group.runs[0].label for group in groups):
        own = [group.settings for group in groups if group.runs[0].label == label]
        keys = dict.fromkeys(key for settings in own for key in settings)
        if label is not None and len(own) > 1:
            differing = [short(key) for key in keys if len({settings.get(key) for settings in own}) > 1]
            yield f"--label {label}: its runs differ in {', '.join(differing)}; give each a label of its own"


def settings_of(run: RunRecord) -> Settings:
    """Everything that decides what the run's models are, but for start model and seed; as text, by key."""
    config = run.config
    phases = {name: phase for _, name, phase in phases_to_run(config)}
    left_out = ELSEWHERE | IRRELEVANT
    unread = _unread(config, [phase.method for phase in phases.values()])
    left_out = left_out | unread
    found = _flat({key: value for key, value in asdict(config).items() if key not in left_out})
    for name, phase in phases.items():
        own = {key: value for key, value in asdict(phase).items() if key not in IRRELEVANT_IN_A_PHASE}
        found |= _flat({"phases": {name: own | {"unfreeze_rank_ratio": run.ratios[name]}}})
    return {key: value for key, value in found.items() if key not in IRRELEVANT_KEYS | unread}


def _unread(config: ExperimentConfig, methods: Sequence[str]) -> set[str]:
    """Groups and keys of methods that decide nothing in a run with these `methods`."""
    used = {method_named(name) for name in methods}
    found = {group for method in built_in() if method not in used for group in method.groups}
    return found.union(*(method.unread(config) for method in used))


def short(key: str) -> str:
    """A key as read in a label: `skills.learning_rate`, or `method` where it is that of every phase."""
    return key.removeprefix(EVERY_PHASE).removeprefix("phases.").removeprefix("osft.")


def _settings_of_all(runs: Sequence[RunRecord]) -> list[Settings]:
    """The settings of each run. Data is called by the path under which its content was first met."""
    names: dict[str, str] = {}
    found = []
    for run in runs:
        settings = settings_of(run)
        for key in settings.keys() & run.contents.keys():
            content = run.contents[key]
            if content not in names:
                taken = settings[key] in names.values()
                names[content] = f"{settings[key]} ({content[:8]})" if taken else settings[key]
            settings[key] = names[content]
        found.append(settings)
    return found


def _differing(settings: Sequence[Settings]) -> list[Settings]:
    """What is not the same in all groups; one line for what every group sets alike in all of its phases."""
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


def _labels(groups: Sequence[Sequence[RunRecord]], differing: Sequence[Settings]) -> list[str]:
    """What the user says; else the experiments' names, where they tell the groups apart; else the settings."""
    names = [{run.config.name for run in runs} for runs in groups]
    named = [next(iter(own)) for own in names if len(own) == 1]
    found = named if len(set(named)) == len(groups) else _by_settings(differing)
    if len(groups) == 1:
        found = [groups[0][0].config.name]
    labels: list[str] = []
    for runs, label in zip(groups, found, strict=True):
        wanted = runs[0].label or label
        count = sum(wanted in (other, other.rpartition(" #")[0]) for other in labels)
        labels.append(f"{wanted} #{count + 1}" if count else wanted)
    return labels


def _by_settings(differing: Sequence[Settings]) -> list[str]:
    """As few settings as tell the groups apart, the telling ones first; the whole list stands in a table."""
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
    """A number to four digits; of a path its last part."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return Path(text).name or text


def _flat(settings: Mapping[str, Any], path: str = "") -> Settings:
    """By whole key, as text; what is not set at all (null, an empty list) is not there."""
    flat: Settings = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{key}.")
        elif value is not None and value != []:
            flat[f"{path}{key}"] = str(value.value if isinstance(value, Enum) else value)
    return flat
