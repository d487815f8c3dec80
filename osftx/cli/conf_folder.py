"""Where the YAML configuration that comes with osftx is."""

from pathlib import Path

CONFIG_NAME = "config"
"""The file in the folder that Hydra composes everything from, without its suffix."""


def conf_folder() -> Path:
    """Returns the folder of the YAML groups: in an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"
