"""Look at the phase store and tidy it: `python -m osftx.store list | show | verify | prune`."""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from rich.table import Table

from osftx.config.run_layout import PHASE_RESULT, saved_steps
from osftx.config.schema import DEFAULT_STORE
from osftx.store.entries import MANIFEST, PhaseStore, of_another_format, read_entry
from osftx.store.fingerprint import LENGTH
from osftx.utils.console import console, tell

ENTRY = re.compile(rf"[0-9a-f]{{{LENGTH}}}")
REST = re.compile(rf"{ENTRY.pattern}\.(partial|damaged)-[0-9a-f]{{8}}")
ENTRY_OR_REST = re.compile(rf"{ENTRY.pattern}|{REST.pattern}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code.

    The codes are 0 for success, 1 if `verify` found damage, and 2 if the store or entry does not exist or cannot be
    changed.
    """
    parser = argparse.ArgumentParser(prog="python -m osftx.store", description=__doc__)
    parser.add_argument("--store-dir", type=Path, default=Path(DEFAULT_STORE), help="the store (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every stored phase: fingerprint, name, size, age")
    show = commands.add_parser("show", help="one stored phase: its manifest and its scores")
    show.add_argument("fingerprint", help="or the beginning of it")
    commands.add_parser("verify", help="compare every file with its digest")
    what = "remove what was set aside as damaged, and what was broken off before it was saved"
    prune = commands.add_parser("prune", help=what, description=f"{what}. Stored phases stay.")
    unfinished = "phases that were broken off after a save, too: they begin anew"
    prune.add_argument("--unfinished", action="store_true", help=unfinished)
    everything = "everything else too: run folders link to them, and no run may be using the store"
    prune.add_argument("--all", action="store_true", help=everything)
    chosen = parser.parse_args(arguments)
    store = PhaseStore(chosen.store_dir.expanduser())
    if not (store.phases.is_dir() or store.unfinished.is_dir()):
        print(f"osftx.store: {chosen.store_dir}: no phase store here; give --store-dir DIR", file=sys.stderr)
        return 2
    match chosen.command:
        case "list":
            return _list(store)
        case "show":
            return _show(store, chosen.fingerprint)
        case "verify":
            return _verify(store)
        case _:
            try:
                return _prune(store, chosen.unfinished or chosen.all, chosen.all)
            except OSError as error:
                print(f"osftx.store: {error.filename}: cannot be removed ({error.strerror})", file=sys.stderr)
                return 2


def _list(store: PhaseStore) -> int:
    table = Table(title=f"Phases in {store.folder}", title_justify="left")
    for heading in ("fingerprint", "phase", "trained", "parent"):
        table.add_column(heading, no_wrap=True)
    table.add_column("MB", justify="right")
    for entry in store.entries():
        held = entry.manifest
        size_mb = f"{held.bytes / 1e6:,.1f}"
        table.add_row(held.fingerprint[:12], held.name, held.created[:19], held.parent[:12], size_mb)
    console().print(table)
    for folder in _entries(store):
        if read_entry(folder) is None and not of_another_format(folder):
            print(f"damaged: {folder.name[:12]}, {MANIFEST} cannot be read; it is trained again when it is needed")
    if sizes := [path.stat().st_size for path in store.eigenvectors.glob("*.safetensors")]:
        print(f"decompositions: {len(sizes)}, {sum(sizes) / 1e6:,.1f} MB")
    for folder in _folders(store.unfinished):
        steps = saved_steps(folder)
        print(f"unfinished: {folder.name[:12]}, " + (f"saved after step {steps[0]}" if steps else "not saved yet"))
    return 0


def _show(store: PhaseStore, beginning: str) -> int:
    found = [entry for entry in store.entries() if entry.manifest.fingerprint.startswith(beginning)]
    if len(found) != 1:
        print(
            f"osftx.store: {beginning}: {len(found)} stored phases begin with it; give one of those in `list`",
            file=sys.stderr,
        )
        return 2
    (entry,) = found
    held = entry.manifest
    tell(f"phase {held.name}, trained {held.created}, {held.bytes / 1e6:,.1f} MB\n{entry.folder}")
    print(f"fingerprint {held.fingerprint}\nparent      {held.parent}")
    with suppress(OSError, ValueError, KeyError):  # damaged; `verify` reports it
        result = json.loads((entry.folder / PHASE_RESULT).read_text())
        print(f"{result['steps']} steps, {result['tokens']} tokens, {result['duration_s']:.0f} s")
    for name, file in held.files.items():
        print(f"  {file['sha256'][:12]} {file['size']:>14,}  {name}")
    return 0


def _verify(store: PhaseStore) -> int:
    damaged = 0
    for folder in _entries(store):
        entry = read_entry(folder)
        if of_another_format(folder):
            print(f"{folder.name[:12]}: of another version of the store, not looked at")
            continue
        problems = list(entry.problems()) if entry is not None else [f"{MANIFEST} cannot be read"]
        damaged += bool(problems)
        name = entry.manifest.name if entry is not None else ""
        print(f"{folder.name[:12]} {name}: {'; '.join(problems) or 'as it was written'}")
    return 1 if damaged else 0


def _prune(store: PhaseStore, unfinished: bool, everything: bool) -> int:
    removable = ENTRY_OR_REST if everything else REST
    broken_off = [folder for folder in _folders(store.unfinished) if unfinished or not saved_steps(folder)]
    removed = sum(_remove(store, folder) for folder in broken_off)
    for partial in store.eigenvectors.glob("*.partial"):
        partial.unlink(missing_ok=True)
    if everything:
        for folder in (store.eigenvectors, store.folder / "evaluations", store.folder / "benchmarks"):
            shutil.rmtree(folder, ignore_errors=True)
        store.known_digests.unlink(missing_ok=True)
    removed += sum(_remove(store, folder) for folder in _folders(store.phases) if removable.fullmatch(folder.name))
    print(f"removed {removed}, kept {len(_entries(store))}")
    if left := len(_folders(store.unfinished)):
        print(
            f"{left} unfinished, which the same commands go on with; prune --unfinished removes those not in training"
        )
    return 0


def _entries(store: PhaseStore) -> list[Path]:
    return [folder for folder in _folders(store.phases) if ENTRY.fullmatch(folder.name)]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _remove(store: PhaseStore, folder: Path) -> bool:
    """Removes a folder and returns True, or returns False if a run is working on its phase."""
    path = store.folder / "locks" / f"{folder.name.partition('.')[0]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            shutil.rmtree(folder)
            return True
    except Timeout:
        return False


if __name__ == "__main__":
    sys.exit(main())
