"""Look at the phase store and tidy it: `python -m osftx.store list | show | verify | prune`."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from osftx.config.run_layout import PHASE_RESULT, saved_steps
from osftx.config.schema import DEFAULT_STORE
from osftx.store.entries import FINGERPRINT, MANIFEST, MARKER, PhaseStore, entry_problems, of_another_format, read_entry
from osftx.store.prune import prune
from osftx.store.verify import WHOLE, verify
from osftx.utils.console import console, replace_what_cannot_be_shown, tell
from osftx.utils.files import expanded
from osftx.utils.manifest import unreadable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code.

    The codes are 0 for success, 1 if `verify` found damage, and 2 if the store or entry does not exist or cannot be
    changed.
    """
    replace_what_cannot_be_shown()
    parser = argparse.ArgumentParser(prog="python -m osftx.store", description=__doc__)
    parser.add_argument("--store-dir", type=Path, default=Path(DEFAULT_STORE), help="the store (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every stored phase: fingerprint, name, size, age")
    show = commands.add_parser("show", help="one stored phase: its manifest and its scores")
    show.add_argument("fingerprint", help="or the beginning of it")
    commands.add_parser("verify", help="compare everything in the store with its digests")
    what = "remove what was set aside as damaged, and what was broken off before it was saved"
    prune = commands.add_parser("prune", help=what, description=f"{what}. Stored phases stay.")
    unfinished = "phases that were broken off after a save, too: they begin anew"
    prune.add_argument("--unfinished", action="store_true", help=unfinished)
    everything = "everything else too: run folders link to them, and no run may be using the store"
    prune.add_argument("--all", action="store_true", help=everything)
    chosen = parser.parse_args(arguments)
    store = PhaseStore(expanded(chosen.store_dir))
    try:
        if not store.exists():
            print(
                f"osftx.store: {chosen.store_dir}: no phase store here (no {MARKER}, no phase); give --store-dir DIR",
                file=sys.stderr,
            )
            return 2
        match chosen.command:
            case "list":
                return _list(store)
            case "show":
                return _show(store, chosen.fingerprint)
            case "verify":
                return _verify(store)
            case _:
                return _prune(store, chosen.unfinished, chosen.all)
    except OSError as error:
        doing = "removed" if chosen.command == "prune" else "read"
        print(f"osftx.store: {error.filename}: cannot be {doing} ({error.strerror})", file=sys.stderr)
        return 2


def _list(store: PhaseStore) -> int:
    table = Table(title=f"Phases in {store.folder}", title_justify="left")
    for heading in ("fingerprint", "phase", "trained", "parent"):
        table.add_column(heading, no_wrap=True)
    table.add_column("MB", justify="right")
    for entry in store.entries():
        held = entry.manifest
        size_mb = f"{held.bytes / 1e6:,.1f}"
        table.add_row(
            held.fingerprint[:12], escape(held.name), escape(held.created[:19]), escape(held.parent[:12]), size_mb
        )
    console().print(table)
    for folder in _entries(store):
        if (reason := unreadable(folder, [MANIFEST])) is not None:
            tell(f"not to be read: {folder.name[:12]} ({reason})")
        elif of_another_format(folder):
            tell(f"not used: {folder.name[:12]}, {next(entry_problems(folder))}")
        elif read_entry(folder) is None:
            problem = next(entry_problems(folder))
            tell(f"damaged: {folder.name[:12]}, {problem}; it is trained again when it is needed")
    if sizes := [path.stat().st_size for path in store.eigenvectors.glob("*.safetensors")]:
        tell(f"decompositions: {len(sizes)}, {sum(sizes) / 1e6:,.1f} MB")
    for folder in _folders(store.unfinished):
        if (reason := unreadable(folder, [])) is not None:
            tell(f"unfinished: {folder.name[:12]}, not to be read ({reason})")
            continue
        steps = saved_steps(folder)
        tell(f"unfinished: {folder.name[:12]}, " + (f"saved after step {steps[0]}" if steps else "not saved yet"))
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
    tell(f"fingerprint {held.fingerprint}\nparent      {held.parent}")
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged; `verify` reports it
        result = json.loads((entry.folder / PHASE_RESULT).read_text(encoding="utf-8"))
        tell(f"{result['steps']} steps, {result['tokens']} tokens, {result['duration_s']:.0f} s")
    for name, file in held.files.items():
        tell(f"  {file['sha256'][:12]} {file['size']:>14,}  {name}")
    return 0


def _verify(store: PhaseStore) -> int:
    damaged = 0
    for name, problem in verify(store):
        damaged += problem is not None
        tell(f"{name}: {problem or WHOLE}")
    return 1 if damaged else 0


def _prune(store: PhaseStore, unfinished: bool, everything: bool) -> int:
    removed = prune(store, unfinished, everything)
    print(f"removed {removed}, kept {len(_entries(store))}")
    if left := len(_folders(store.unfinished)):
        print(
            f"{left} unfinished, which the same commands go on with; prune --unfinished removes those not in training"
        )
    return 0


def _entries(store: PhaseStore) -> list[Path]:
    return [folder for folder in _folders(store.phases) if FINGERPRINT.fullmatch(folder.name)]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
