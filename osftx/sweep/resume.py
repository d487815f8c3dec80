"""Checks whether a sweep can be resumed in a folder, which must hold the same sweep with the same jobs."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from osftx.config.identity import Use, counting
from osftx.config.run_layout import SWEEP_CONFIG
from osftx.results.plain_files import read_yaml
from osftx.utils.files import write_text
from osftx.utils.masking import masked, seal_of, sealed

RESUME = "sweep.resume"
FOLDER = "hydra.sweep.dir"


def why_not_resumed(config: DictConfig, folder: Path) -> str | None:
    """Returns why the sweep in `folder` cannot be resumed with this configuration, and the remedy; None if it can."""
    if any(word.startswith(f"{FOLDER}=") for word in config.hydra.overrides.hydra):
        return f"is the sweep's folder already; leave {FOLDER} out"
    if not (folder / SWEEP_CONFIG).is_file():
        return "holds no sweep; correct the folder, or leave sweep.resume out"
    other = why_another_sweep(config, folder)
    return None if other is None else f"{other}; give the same ones, or leave it out"


def why_another_sweep(config: DictConfig, folder: Path) -> str | None:
    """Returns how the sweep in `folder`, as its settings say, differs from the one with this configuration, or None."""
    try:
        there, seal = _saved(folder / SWEEP_CONFIG)
    except ValueError as error:
        return f"its {SWEEP_CONFIG} cannot be read ({error})"
    here = _deciding(OmegaConf.create(OmegaConf.to_yaml(config)))
    same_secrets = (seal or sealed(there)) == sealed(here)
    there, here = masked(there), masked(here)
    if there["overrides"] != here["overrides"]:
        return f"was made with other overrides ({' '.join(map(str, there['overrides']))})"
    if others := [key for key in here if here[key] != there.get(key)]:
        return f"was made with other settings of {', '.join(others)}"
    return None if same_secrets else "was made with other secrets"


def _saved(file: Path) -> tuple[dict[str, Any], str]:
    """Returns what determines the jobs of the sweep whose settings are in a file, and the seal of its secrets if any.

    Raises ValueError with the reason if the file cannot be read.
    """
    try:
        return _deciding(OmegaConf.create(read_yaml(file))), seal_of(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except (TypeError, LookupError, AttributeError, AssertionError, OmegaConfBaseException) as error:
        raise ValueError("they are not the settings of a sweep") from error


def _deciding(config: Any) -> dict[str, Any]:
    """Returns what determines the jobs of a sweep: overrides, search space, and the settings that they change."""
    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    hydra = content.pop("hydra")
    overrides = hydra["overrides"]["task"]
    rest = counting({str(key): value for key, value in content.items()}, Use.SWEEP)
    sweeper = {f"hydra.sweeper.{key}": hydra["sweeper"].get(key) for key in ("_target_", "params")}
    deciding = {
        "overrides": [word for word in overrides if word.split("=")[0] not in (RESUME, "dry_run")],
        **sweeper,
        **rest,
    }
    return deciding


def mask_settings(folder: Path) -> None:
    """Masks the secrets in the settings of the sweep that Hydra has written into its folder."""
    saved = folder / SWEEP_CONFIG
    try:
        settings = OmegaConf.load(saved)
        content = OmegaConf.to_container(settings)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return
    if (shown := masked(content)) != content:
        seal = sealed(_deciding(settings))
        write_text(saved, (f"{seal}\n" if seal else "") + OmegaConf.to_yaml(OmegaConf.create(shown)))
