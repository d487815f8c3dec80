"""Who holds what; the rest of the record needs ranks (tests/integration/test_phase.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from osftx.errors import ConfigurationError
from osftx.methods.covariance.covariance import owners
from osftx.methods.covariance.index import Record, record_beside, weights_digest
from osftx.models.targets import Target

LLAMA_LAYER = [4096, 4096, 4096, 14336]  # q, k, v; o; gate, up; down


def test_no_rank_holds_much_more_than_the_others() -> None:
    widths = LLAMA_LAYER * 32
    for ranks in (2, 4, 8):
        held = [0] * ranks
        for width, owner in zip(widths, owners(widths, ranks), strict=True):
            held[owner] += width * width
        assert max(held) <= 1.3 * min(held), ranks


def test_an_owner_depends_on_the_inputs_before_it_alone() -> None:
    widths = LLAMA_LAYER * 4
    for count in range(len(widths)):
        assert owners(widths[:count], 3) == owners(widths, 3)[:count]
    assert set(owners(widths, 1)) == {0}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with a record beside it."""
    folder = tmp_path / "kept_inputs"
    folder.mkdir()
    for name in ("q_proj", "o_proj"):
        (folder / f"{name}.safetensors").write_text("")
    model = tmp_path / "checkpoint"
    model.mkdir()
    save_file({"weight": np.zeros(8)}, model / "model.safetensors")
    digests = ["of the best state", weights_digest(model)]
    Record([["q_proj", "k_proj"], ["o_proj"]], [8, 6], ["preserve.data", "knowledge"], digests).save(folder)
    return model


def test_the_record_beside_a_checkpoint_is_found_also_through_a_link(checkpoint: Path, tmp_path: Path) -> None:
    folder = checkpoint.parent / "kept_inputs"
    assert record_beside(checkpoint) == folder
    link = tmp_path / "elsewhere" / "checkpoint"
    link.parent.mkdir()
    link.symlink_to(checkpoint)
    assert record_beside(link) == folder
    assert record_beside(folder / "none") is None
    targets = [Target("q_proj", ((4, 8),)), Target("k_proj", ((2, 8),)), Target("o_proj", ((8, 6),))]
    record = Record.load(folder)
    record.check(folder, targets, checkpoint)
    with pytest.raises(ConfigurationError, match=r"other targets than this run.s .*they differ at o_proj"):
        record.check(folder, targets[:2], checkpoint)


def test_a_record_knows_its_targets_by_their_names_in_the_files(checkpoint: Path) -> None:
    """Which the parent process reads; ranks know them by the model's own."""
    folder = checkpoint.parent / "kept_inputs"
    record = Record.load(folder)
    record.stored = {"q_proj": "h.q_proj", "k_proj": "h.k_proj", "o_proj": "h.o_proj"}
    record.save(folder)
    targets = [Target("h.q_proj", ((4, 8),)), Target("h.k_proj", ((2, 8),)), Target("h.o_proj", ((8, 6),))]
    Record.load(folder).check(folder, targets, checkpoint)


def test_a_record_beside_another_model_is_refused(checkpoint: Path) -> None:
    """Of the same shapes: the content tells."""
    save_file({"weight": np.ones(8)}, checkpoint / "model.safetensors")
    folder = checkpoint.parent / "kept_inputs"
    targets = [Target("q_proj", ((4, 8),)), Target("k_proj", ((2, 8),)), Target("o_proj", ((8, 6),))]
    with pytest.raises(ConfigurationError, match=r"kept_inputs: a record of another model than .*move it away"):
        Record.load(folder).check(folder, targets, checkpoint)


@pytest.mark.parametrize(
    "damage",
    [{"widths": [8]}, {"readers": None}, {"sources": None}, {"readers": [["q_proj"], ["gone"]]}, {"more": 1}],
    ids=str,
)
def test_a_damaged_record_is_one_clear_problem(checkpoint: Path, damage: dict[str, object]) -> None:
    index = checkpoint.parent / "kept_inputs" / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | damage))
    with pytest.raises(ConfigurationError, match="not a record of input covariance"):
        Record.load(index.parent)
