"""The only reader of the files in a run folder. It is lenient: a run that ended early is read as far as it got.

The folder may be somebody else's: its files are read as plain data (`plain_files`, `settings`).
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from osftx.config.load import typed
from osftx.config.run_layout import CONFIG, METRICS, PHASE, PHASE_RESULT, PLAN, RESULTS, SAMPLES, phase_folder
from osftx.config.schema import ExperimentConfig
from osftx.results.plain_files import read_json, read_json_lines, read_yaml, visible
from osftx.results.run_record import Json, PhaseRecord, RunRecord
from osftx.results.settings import followed


def read_run(folder: Path, own: bool = False) -> RunRecord:
    """Returns the record of the run in `folder`.

    Only if the run is this process's `own`, resolvers in its settings (`${oc.env:NAME}`) are resolved: the environment
    of a reader is none of the run's business. `plan.json` must exist, all other files may be missing. Raises OSError,
    ValueError, KeyError, TypeError, AttributeError, or an error of YAML or OmegaConf for a missing plan or a damaged
    file.
    """
    results = _json_if_any(folder / RESULTS) or {}
    plan = _json(folder / PLAN)
    config = _config_if_any(folder / CONFIG, own)
    done = {phase["name"]: phase for phase in results.get("phases", [])}
    phases = [_phase(folder, planned, done.get(planned["name"], {}), config) for planned in plan["phases"]]
    return RunRecord(folder, plan, results, phases, config, _lines_if_any(folder / SAMPLES))


def read_settings(folder: Path) -> Any:
    """Returns the content of `config.yaml` as plain data, without defaults and with interpolations unresolved.

    Raises OSError, ValueError or YAMLError if it cannot be read.
    """
    return read_yaml(folder / CONFIG)


def read_phase_result(folder: Path) -> Json:
    """Returns the content of the `result.json` in a phase folder. Raises OSError or ValueError if it cannot be read."""
    return _json(folder / PHASE_RESULT)


def phases_done(folder: Path) -> tuple[int, int]:
    """Returns the number of finished phases and the number of planned phases of the run in `folder`.

    Raises OSError, ValueError, KeyError or TypeError if `results.json` or `plan.json` cannot be read.
    """
    done, planned = (len(_json(folder / name)["phases"]) for name in (RESULTS, PLAN))
    return done, planned


def _phase(run_folder: Path, planned: Json, result: Json, config: ExperimentConfig | None) -> PhaseRecord:
    name = str(planned["name"])
    if Path(name).name != name or name == "..":
        raise ValueError(f"{run_folder / PLAN}: a phase is called {name!r}")
    if not isinstance(planned["index"], int):
        raise ValueError(f"{run_folder / PLAN}: a phase has the index {planned['index']!r}")
    folder = phase_folder(run_folder, planned["index"], name)
    return PhaseRecord(
        name=name,
        plan=planned,
        result=result,
        steps=_lines_if_any(folder / METRICS),
        record=_json_if_any(folder / PHASE_RESULT),
        spec=dict(visible(read_yaml(folder / PHASE), folder / PHASE)) if (folder / PHASE).exists() else None,
        seed=config.phases[name].seed if config is not None and name in config.phases else None,
    )


def _config_if_any(path: Path, own: bool) -> ExperimentConfig | None:
    """Returns the configuration, with defaults for keys that the version of osftx that wrote it did not have."""
    if not path.exists():
        return None
    settings = dict(visible(read_yaml(path), path))
    config = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), settings if own else followed(settings))
    assert isinstance(config, DictConfig)
    return typed(config)


def _json(path: Path) -> Json:
    return dict(read_json(path))


def _json_if_any(path: Path) -> Json | None:
    return _json(path) if path.exists() else None


def _lines_if_any(path: Path) -> list[Json]:
    return [dict(line) for line in read_json_lines(path)] if path.exists() else []
