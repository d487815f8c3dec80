"""Writes the comparison as files: comparison.json for programs, comparison.md for a page, comparison.png beside it."""

from dataclasses import asdict
from pathlib import Path

from osftx.compare.comparison import Comparison
from osftx.compare.figures import picture
from osftx.compare.sentences import answer, notes
from osftx.compare.show import FIGURE_FILE, markdown
from osftx.errors import ConfigurationError
from osftx.utils.files import write_bytes, write_json, write_text


def write(comparison: Comparison, folder: Path) -> None:
    """Writes the three files. Raises ConfigurationError if the folder cannot be written."""
    content = asdict(comparison) | {
        "answers": {group.label: answer(comparison, group) for group in comparison.groups},
        "notes": list(notes(comparison)),
    }
    image = picture(comparison)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / FIGURE_FILE, image)
        write_text(folder / "comparison.md", markdown(comparison))
        write_json(folder / "comparison.json", content)
    except OSError as error:
        raise ConfigurationError(
            [f"--output {folder}: cannot be written ({error.strerror}); choose a folder that you may write to"]
        ) from error
