"""Which samples are held out: every one on one side, the same ones whatever surrounds them."""

import numpy as np
import pytest

from osftx.data.splitting import split_samples

DIGESTS = np.random.default_rng(0).integers(2**63, size=200, dtype=np.uint64)


@pytest.mark.parametrize(("share", "held_out"), [(0.1, 20), (0.5, 100), (0.999, 200), (0.001, 0)])
def test_every_sample_is_on_one_side(share: float, held_out: int) -> None:
    trained, held = split_samples(DIGESTS, 200, share, seed=42)
    assert len(held) == held_out
    assert sorted([*trained, *held]) == list(range(200))


def test_the_seed_and_the_contents_decide() -> None:
    _, held = split_samples(DIGESTS, 200, 0.1, seed=42)
    _, other = split_samples(DIGESTS, 200, 0.1, seed=43)
    assert set(held) != set(other)
    order = np.random.default_rng(1).permutation(200)
    _, in_another_order = split_samples(DIGESTS[order], 200, 0.1, seed=42)
    assert set(DIGESTS[order][in_another_order]) == set(DIGESTS[held])
    _, more = split_samples(DIGESTS, 200, 0.3, seed=42)
    assert set(held) < set(more)


def test_a_sample_that_occurs_often_is_on_one_side() -> None:
    often = np.concatenate([DIGESTS, DIGESTS[:50], DIGESTS[:50]])
    trained, held = split_samples(often, len(often), 0.25, seed=42)
    assert not set(often[trained]) & set(often[held])
    assert len(set(often[held])) == 50
    assert len(trained) + len(held) == len(often)


def test_what_is_replayed_is_never_held_out() -> None:
    """Nor does it bring back to the training what is held out."""
    with_replay = np.concatenate([DIGESTS, DIGESTS[::2], np.arange(30, dtype=np.uint64)])
    trained, held = split_samples(with_replay, 200, 0.25, seed=42)
    assert np.array_equal(held, split_samples(DIGESTS, 200, 0.25, seed=42)[1])
    assert not set(with_replay[trained]) & set(with_replay[held])
    assert set(range(300, 330)) < set(trained)
