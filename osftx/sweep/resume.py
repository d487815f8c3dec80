"""Checks whether a sweep can be resumed in a folder, which must hold the same sweep with the same jobs."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from osftx.config.identity import Use, counting
from osftx.config.run_layout import SWEEP_CONFIG
from osftx.results.plain_files import read_yaml
from osftx.utils.files import write_text
from osftx.utils.masking import masked

RESUME = "sweep.resume"
FOLDER = "hydra.sweep.dir"


def why_not_resumed(config: DictConfig, folder: Path) -> str | None:
    """Returns why the sweep in `folder` cannot be resumed with this configuration, and the remedy; None if it can."""
    if any(word.startswith(f"{FOLDER}=") for word in config.hydra.overrides.hydra):
        return f"is the sweep's folder already; leave {FOLDER} out"
    saved = folder / SWEEP_CONFIG
    if not saved.is_file():
        return "holds no sweep; correct the folder, or leave sweep.resume out"
    try:
        there = _deciding(OmegaConf.create(read_yaml(saved)))
    except (OSError, ValueError, TypeError, LookupError, AssertionError, YAMLError) as error:
        return f"its {SWEEP_CONFIG} cannot be read ({type(error).__name__}); start the sweep anew"
    here = _deciding(OmegaConf.create(OmegaConf.to_yaml(config)))
    if there["overrides"] != here["overrides"]:
        return f"was made with other overrides ({' '.join(there['overrides'])}); give the same ones, or leave it out"
    if others := [key for key in here if here[key] != there.get(key)]:
        return f"was made with other settings of {', '.join(others)}; set them back, or leave it out"
    return None


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
    return dict(masked(deciding))


def mask_settings(folder: Path) -> None:
    """Masks the secrets in the settings of the sweep that Hydra has written into its folder."""
    saved = folder / SWEEP_CONFIG
    try:
        content = OmegaConf.to_container(OmegaConf.load(saved))
    except (OSError, ValueError, YAMLError):
        return
    if (shown := masked(content)) != content:
        write_text(saved, OmegaConf.to_yaml(OmegaConf.create(shown)))
