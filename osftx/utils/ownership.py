"""Who may have written a file: what is read from a place that others can write may be anything."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

ROOT = 0


def not_ours(place: Path) -> str | None:
    """Returns why a folder, or anything in it, may hold what another user wrote, and the remedy; else None.

    Nobody but this user and root may own anything there, nor every user be able to write it. A group may: who shares a
    group's folder trusts the group. Raises OSError if the folder cannot be looked at.
    """
    ours = {ROOT, os.geteuid(), _owner_of_new_files(place)}
    closed = not place.stat().st_mode & stat.S_IXOTH
    for path in (place, *place.rglob("*")):
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode):
            return f"{path} is a link; replace it by what it leads to"
        if state.st_uid not in ours:
            return f"{path} belongs to the user {_name(state.st_uid)}"
        if state.st_mode & stat.S_IWOTH and not closed:
            return f"every user can write {path} (chmod -R o-w {place})"
    return None


def close_to_others(folder: Path) -> None:
    """Takes all rights to a folder from those who are neither its owner nor in its group."""
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~stat.S_IRWXO)


def _owner_of_new_files(folder: Path) -> int:
    """Returns the owner of the files that this process writes there: a network file system may map users to others."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_uid
    except OSError:
        return os.geteuid()


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
