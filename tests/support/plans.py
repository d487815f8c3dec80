"""Plans of runs whose model, targets and data are made up."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from osftx.config.schema import ExperimentConfig
from osftx.data.samples import DataSummary, Prepared
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.outline import by_method, outline, with_records
from osftx.planning.phase_specs import RunFiles
from osftx.planning.plan import Plan, make_plan
from osftx.planning.run_data.phase_data import PhaseData


def phase_data(summary: DataSummary, folder: Path | None = None) -> PhaseData:
    """What a phase trains on, without the samples themselves."""
    nothing = np.empty(0, dtype=np.uint64)
    return PhaseData(Prepared(folder, summary, nothing, nothing, ""))


def plan_of(
    config: ExperimentConfig,
    model: ModelFiles,
    targets: list[Target],
    data: Mapping[str, DataSummary],
    recorded: Sequence[str] = (),
    files: RunFiles | None = None,
) -> Plan:
    """The plan of the phases that run: OSFT has the `targets`, `recorded` are sources beside the start model.

    With `files` the samples of a phase lie in the folder `/data/NAME`.
    """
    phases = with_records(config, outline(config), recorded)
    by = {method: targets if method.name == "osft" else [] for method in by_method(phases)}
    own = {name: phase_data(one, Path("/data") / name if files is not None else None) for name, one in data.items()}
    return make_plan(config, model, phases, by, own, files)
