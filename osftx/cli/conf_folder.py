"""The location of the YAML configuration that comes with osftx."""

from pathlib import Path

CONFIG_NAME = "config"
"""Name, without suffix, of the file in the folder from which Hydra starts to compose."""


def conf_folder() -> Path:
    """Returns the folder of the YAML groups: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"
