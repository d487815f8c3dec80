"""Where the saves of a phase that is still training lie: `step_<steps>/` folders, each sealed with its manifest."""

import re
from pathlib import Path

SAVE = re.compile(r"step_(\d{8})")


def save_folder(folder: Path, steps: int) -> Path:
    """Of the state after so many optimizer steps."""
    return folder / f"step_{steps:08d}"


def saved_steps(folder: Path) -> list[int]:
    """The steps after which the phase was saved, the newest first; whether the saves are whole is not looked at."""
    if not folder.is_dir():
        return []
    names = (SAVE.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(name[1]) for name in names if name), reverse=True)
