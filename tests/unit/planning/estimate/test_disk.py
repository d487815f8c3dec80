"""What a phase writes, against numbers that were worked out by hand."""

from dataclasses import replace

from one_layer import NUMBERS, workload

from osftx.config.schema import CheckpointingConfig, OsftConfig
from osftx.data.samples import DataSummary
from osftx.planning.estimate import disk
from osftx.planning.estimate.disk import Disk, Room, needed


def test_what_a_phase_writes() -> None:
    data = DataSummary("facts.jsonl", samples=100, tokens=8000)
    found = disk.of_phase(workload(0.25), data, 1000, CheckpointingConfig(keep=2))
    assert found == Disk(
        checkpoint=2 * NUMBERS,
        bases=4 * (360_448 + 1_769_472),
        kept_inputs=0,
        eigenvectors=8 * (5 * 512**2 + 2 * 256**2),
        data=4 * 8000 + 8000 // 8 + 24 * 100,
        while_training=3 * 12 * 589_824,  # two that are kept, and one that is being written
    )
    assert disk.of_phase(workload(0.25), data, 1, CheckpointingConfig(keep=2)).while_training == 12 * 589_824
    thrifty = disk.of_phase(workload(0.25, osft=OsftConfig(save_bases=False)), data, 0, CheckpointingConfig())
    assert (thrifty.bases, thrifty.while_training) == (0, found.bases)
    alone = disk.of_phase(workload(0.25), data, 1000, None)
    assert (alone.eigenvectors, alone.while_training, alone.result) == (0, 0, found.result)
    plain = disk.of_phase(workload(None), data, 1000, CheckpointingConfig(keep=1))
    assert (plain.bases, plain.eigenvectors, plain.while_training) == (0, 0, 2 * 12 * NUMBERS)


def test_by_activations_a_phase_writes_moments_and_energies() -> None:
    work = workload(0.25, osft=OsftConfig(subspace="activations"))
    found = disk.of_phase(work, DataSummary("facts.jsonl"), 0, CheckpointingConfig())
    roots = 3 * (512 * 513 + 4 * 512) + 1024 * 1025 + 4 * 1024
    vectors = 4 * (3 * 512**2 + 1024**2)
    assert (found.kept_inputs, found.eigenvectors, found.while_training) == (roots, vectors, roots)
    assert found.bases == 4 * (6 * 65_536 + 262_144 + 6 * 128**2 + 256**2)


def test_bases_that_do_not_stay_are_there_while_their_phase_trains() -> None:
    phase = Disk(100, 30, 0, 7, 1, 50)
    assert phase.without_bases(with_store=True) == Disk(100, 0, 0, 7, 1, 80)
    assert phase.without_bases(with_store=False) == Disk(100, 0, 0, 7, 1, 50)


def test_phases_add_up_but_only_one_trains_at_a_time() -> None:
    phases = [Disk(100, 30, 0, 7, 1, 50), Disk(100, 20, 0, 7, 1, 40)]
    assert needed(phases, with_store=False, one_disk=True) == Room(250, 0)
    assert needed(phases, with_store=True, one_disk=True) == Room(0, 264 + 50)
    assert needed(phases, with_store=True, one_disk=False) == Room(130, 264 + 80)
    assert needed([], with_store=True, one_disk=False) == Room(0, 0)


def test_a_tied_head_that_the_files_repeat_is_written_twice() -> None:
    data = DataSummary("facts.jsonl")
    once, twice = (disk.of_phase(workload(0.25, repeated=count), data, 10, None) for count in (0, 1000 * 512))
    assert twice == replace(once, checkpoint=once.checkpoint + 2 * 1000 * 512)
