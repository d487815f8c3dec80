"""Finds the tasks of the lm-evaluation-harness by name, before the run starts.

Reads the same YAML files as the harness's TaskManager without using it, since that takes many seconds and imports
`datasets`. A task's name is the value of the key `task` or `group` in a file; tasks of the user hide tasks of the
harness with the same name.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from osftx.config.schema import LmEvalConfig
from osftx.errors import ConfigurationError
from osftx.utils.files import expanded

PACKAGE = "lm_eval"
KEY = "evaluation.lm_eval"
NAME = re.compile(r"""^["']?(?:task|group)["']?[ \t]*:[ \t]*["']?([^\s"'#\[{]+)["']?[ \t]*(?:\#.*)?$""", re.MULTILINE)
"""Pattern of the name in a task's file. Parsing all of the harness's thousands of files would take as long as building
the harness's own index."""
LOCAL_FORMATS = ("json", "csv", "parquet", "text", "arrow")
"""Formats of `datasets` whose data files are on this machine unless they are URLs."""
LISTED = 5
"""Number of members of a group that a message names."""


@dataclass(frozen=True)
class Task:
    name: str
    files: dict[str, Path]
    """Files that determine the task in addition to the harness: the user's YAML, Python and data files."""
    built_in: bool
    """Whether the task needs tasks that come with the harness."""


@dataclass
class _Entry:
    """One YAML file of a task or group, with the files that it includes."""

    path: Path
    config: dict[str, Any]
    read: list[Path]
    """The file itself and the files that it includes."""
    own: bool
    functions: list[Path] = field(default_factory=list)
    """Python files that `!function` refers to."""


def find_tasks(settings: LmEvalConfig) -> dict[str, Task]:
    """Returns the requested tasks, by name.

    Raises ConfigurationError for tasks that do not exist or that have no figure.
    """
    if not settings.tasks:
        return {}
    asked = f"{KEY}.tasks=[{','.join(settings.tasks)}]"
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            [f"{asked}: lm-eval is not installed; pip install 'osftx[eval]', or set {KEY}.tasks=[]"]
        )
    folder = None
    if settings.include_path is not None:
        folder = expanded(settings.include_path)
        if not folder.is_dir():
            raise ConfigurationError(
                [f"{KEY}.include_path={settings.include_path}: no such folder; give one with YAML files, or null"]
            )
    index = _Index(folder, Path(found.submodule_search_locations[0]) / "tasks")
    tasks, problems = {}, []
    for name in settings.tasks:
        try:
            tasks[name] = _task(name, index, settings)
        except ValueError as error:
            problems.append(f"{KEY}.tasks: {error}")
    if problems:
        raise ConfigurationError(problems)
    return tasks


def _task(name: str, index: "_Index", settings: LmEvalConfig) -> Task:
    """Returns one task. Raises ValueError with the task's name, what is wrong, and the remedy."""
    entry = index.find(name)
    if entry is None:
        raise ValueError(index.unknown(name))
    if "group" in entry.config and not entry.config.get("aggregate_metric_list"):
        members = list(_members(entry.config.get("task")))
        listed = ", ".join(members[:LISTED]) + (", ..." if len(members) > LISTED else "")
        raise ValueError(f"{name}: a group without a figure of its own; name its members: {listed}")
    entries = list(index.all_of(name))
    files: dict[str, Path] = {}
    for part in entries:
        if part.config.get("unsafe_code") and not settings.confirm_run_unsafe_code:
            raise ValueError(
                f"{name}: runs code that the model writes on this machine; set {KEY}.confirm_run_unsafe_code=true "
                "where that may be, or leave it out"
            )
        if part.own:
            for path in (*part.read, *part.functions, *_data_files(name, part.config)):
                files[f"{len(files):05d} {path.name}"] = path
    return Task(name, files, built_in=not all(part.own for part in entries))


class _Index:
    def __init__(self, own: Path | None, package: Path):
        self._own, self._package = own, package
        self._unreadable: list[str] = []

    @cached_property
    def own(self) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        for path in sorted(self._own.glob("**/*.yaml"), key=Path.as_posix) if self._own is not None else []:
            try:
                entry = _read(path, own=True)
            except (OSError, ValueError, yaml.YAMLError) as error:  # the harness skips such files, too
                self._unreadable.append(f"{path}: {' '.join(str(error).split())}")
                continue
            name = _name(entry.config)
            if name is not None:
                entries.setdefault(name, entry)
        return entries

    @cached_property
    def package(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for path in sorted(self._package.glob("**/*.yaml"), key=Path.as_posix):
            for name in NAME.findall(path.read_text(encoding="utf-8", errors="replace")):
                files.setdefault(name, path)
        return files

    def find(self, name: str) -> _Entry | None:
        if name in self.own:
            return self.own[name]
        path = self.package.get(name)
        return _read(path, own=False) if path is not None else None

    def all_of(self, name: str) -> Iterator[_Entry]:
        """Yields the entry of a task or group and the entries of all its members, except names that are not found."""
        seen, waiting = set(), [name]
        while waiting:
            current = waiting.pop()
            if current not in seen and (entry := self.find(current)) is not None:
                seen.add(current)
                yield entry
                if "group" in entry.config:
                    waiting += _members(entry.config.get("task"))

    def unknown(self, name: str) -> str:
        tagged = [task for task, entry in self.own.items() if name in _listed(entry.config.get("tag"))]
        if tagged:
            return f"{name}: a tag, which has no figure of its own; name its tasks: {', '.join(tagged)}"
        near = difflib.get_close_matches(name, [*self.own, *self.package], n=3)
        meant = f"did you mean {', '.join(near)}? " if near else ""
        unread = f" ({'; '.join(self._unreadable)})" if self._unreadable else ""
        return (
            f"{name}: neither a task nor a group of lm-eval {version(PACKAGE)} or of {KEY}.include_path{unread}; "
            f"{meant}`lm_eval ls tasks` lists all (a tag has no figure of its own: name its tasks)"
        )


def _name(config: dict[str, Any]) -> str | None:
    name = config.get("group") or config.get("task")
    return name if isinstance(name, str) else None


def _members(task: Any) -> Iterator[str]:
    """Yields the names in a group's `task`: a list of names, of tasks with changes, and of nested groups."""
    if isinstance(task, str):
        yield task
    elif isinstance(task, list):
        for part in task:
            yield from _members(part)
    elif isinstance(task, dict):
        yield from _members(task.get("task"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


class _Function(str):
    """A reference to a Python function, written as `!function utils.process`."""


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!function", lambda loader, node: _Function(node.value))


def _read(path: Path, own: bool, including: tuple[Path, ...] = ()) -> _Entry:
    """Returns a file merged with those that it includes; the file's own keys take precedence.

    Raises ValueError if a file is not a task's YAML.
    """
    if path in including:
        raise ValueError(f"{path}: includes itself")
    config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    if not isinstance(config, dict):
        raise ValueError("not a mapping of keys to values")
    entry = _Entry(path, {}, [path], own, _functions(config, path.parent))
    for included in _listed(config.pop("include", None)):
        below = _read(path.parent / included, own, (*including, path))
        entry.config |= below.config
        entry.read += below.read
        entry.functions += below.functions
    entry.config |= config
    return entry


def _functions(config: Any, folder: Path) -> list[Path]:
    """Returns all Python files beside a YAML file that refers to a function: one file may import another."""
    used = any(isinstance(value, _Function) for value in _values(config))
    return sorted(folder.glob("*.py")) if used else []


def _values(config: Any) -> Iterator[Any]:
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _values(value)
    else:
        yield config


def _data_files(name: str, config: dict[str, Any]) -> Iterator[Path]:
    """Yields the local files that a task names, relative to the working directory.

    Raises ValueError if a file is missing.
    """
    options = config.get("dataset_kwargs")
    options = options if isinstance(options, dict) else {}
    source = config.get("dataset_path")
    if isinstance(source, str) and Path(source).exists():
        yield from _files_in(Path(source))
    base = Path(str(options.get("data_dir") or ""))
    if options.get("data_dir") and base.is_dir() and "data_files" not in options:
        yield from _files_in(base)
    for given in map(str, _values(options.get("data_files", []))):
        if "://" in given:
            continue
        found = [Path(path) for path in sorted(glob(str(base / given), recursive=True)) if Path(path).is_file()]
        if not found and isinstance(source, str) and source in LOCAL_FORMATS:
            raise ValueError(
                f"{name}: its data file {given} is not there (paths are relative to the folder you are in); correct "
                "the path in its YAML file"
            )
        yield from found


def _files_in(place: Path) -> Iterator[Path]:
    yield from (path for path in sorted([place, *place.rglob("*")]) if path.is_file())
