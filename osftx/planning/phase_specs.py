"""The phases of a checked run as pure data, each to start from the checkpoint that the one before will leave."""

from pathlib import Path

from osftx.config.callbacks import read_callback
from osftx.config.phase_spec import PhaseSpec, PreserveSpec
from osftx.config.phases import evaluation_budget, phases_to_run, sets_to_keep, training_of
from osftx.config.run_layout import INPUT_COVARIANCE, phase_folder
from osftx.config.schema import ExperimentConfig, ModelConfig
from osftx.methods.covariance.index import PRESERVED
from osftx.planning.plan import kept_sources
from osftx.planning.preflight import Checked


def phase_specs(config: ExperimentConfig, checked: Checked, run_folder: Path) -> list[PhaseSpec]:
    """What the ranks of each phase will be told; nothing is written."""
    assert checked.model_folder is not None
    source = checked.model_folder
    kept = kept_sources(config, checked.recorded)
    _, budget = evaluation_budget(config)
    specs: list[PhaseSpec] = []
    for (index, name, phase), planned in zip(phases_to_run(config), checked.plan.phases, strict=True):
        spec = PhaseSpec(
            index=index,
            name=name,
            method=phase.method,
            unfreeze_rank_ratio=planned.unfreeze_rank_ratio,
            model=ModelConfig(
                path=str(source),
                attn_implementation=config.model.attn_implementation,
                trust_remote_code=config.model.trust_remote_code,
            ),
            training=training_of(config, name),
            osft=config.osft,
            distributed=config.distributed,
            data=str(checked.data[name]),
            folder=str(phase_folder(run_folder, index, name)),
            preserve=_preserve(config, checked, kept.get(name), source),
            validation=checked.validation.get(name),
            evaluation_sets={name: str(path) for name, path in checked.evaluation_sets.items()},
            sets_to_keep=sets_to_keep(config, name),
            evaluation_max_tokens=budget,
            evaluate_every_steps=config.evaluation.every_steps,
            evaluate_before=not specs,
            callbacks=[read_callback(entry) for entry in config.callbacks],
        )
        specs.append(spec)
        source = spec.checkpoint
    return specs


def _preserve(
    config: ExperimentConfig, checked: Checked, sources: list[str] | None, source: Path
) -> PreserveSpec | None:
    """Where a phase that starts from the checkpoint `source` finds the `sources` that it must keep."""
    if sources is None:
        return None
    if sources == [PRESERVED]:
        return PreserveSpec(record=None, samples=str(checked.preserved), max_tokens=config.preserve.max_tokens)
    return PreserveSpec(
        record=str(source.parent / INPUT_COVARIANCE), samples=None, max_tokens=config.preserve.max_tokens
    )
