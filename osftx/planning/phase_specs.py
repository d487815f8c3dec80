"""Makes the specs of the phases. Each phase starts from the checkpoint of the previous one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from osftx.config.callbacks import read_callback
from osftx.config.phase_spec import PhaseSpec
from osftx.config.phases import evaluation_budget, sets_to_keep
from osftx.config.run_layout import phase_folder
from osftx.config.schema import ExperimentConfig, ModelConfig
from osftx.methods.base import PhaseOutline
from osftx.planning.run_data.phase_data import PhaseData


@dataclass(frozen=True)
class RunFiles:
    """Locations of the files of a run that is to be started."""

    run_folder: Path
    model_folder: Path
    """Local folder of the start model of the run."""
    evaluation_sets: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the tokenised samples, by evaluation set."""
    extra_data: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the tokenised samples that a method reads in addition to the phases' own, by setting."""
    added_stop_tokens: Sequence[int] = ()
    """Token ids that the checkpoints' generation config gets as further stop tokens."""


def make_spec(
    config: ExperimentConfig, phase: PhaseOutline, data: PhaseData, files: RunFiles, before: PhaseSpec | None
) -> PhaseSpec:
    """Returns the spec of a phase and writes nothing.

    `before` is the spec of the previous phase, None for the first phase.
    """
    source = files.model_folder if before is None else before.checkpoint
    folder = phase_folder(files.run_folder, phase.index, phase.name)
    _, budget = evaluation_budget(config)
    assert data.folder is not None
    return PhaseSpec(
        index=phase.index,
        name=phase.name,
        method=phase.config.method,
        unfreeze_rank_ratio=phase.ratio,
        model=ModelConfig(
            path=str(source),
            attn_implementation=config.model.attn_implementation,
            trust_remote_code=config.model.trust_remote_code,
        ),
        training=phase.training,
        osft=config.osft,
        distributed=config.distributed,
        data=str(data.folder),
        folder=str(folder),
        validation=data.held_out.spec(folder) if data.held_out is not None else None,
        evaluation_sets={name: str(path) for name, path in files.evaluation_sets.items()},
        sets_to_keep=sets_to_keep(config, phase.name),
        evaluation_max_tokens=budget,
        evaluate_every_steps=config.evaluation.every_steps,
        evaluate_before=before is None,
        method_settings=phase.config.method_settings,
        added_stop_tokens=list(files.added_stop_tokens),
        callbacks=[read_callback(entry) for entry in config.callbacks],
        **phase.method.spec_fields(config, phase, source, files.extra_data),
    )
