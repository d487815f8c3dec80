"""E[x x^T] of what layers read, in one process, against plain sums; with ranks: tests/integration/test_phase.py."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.methods.covariance import measure as inputs
from osftx.methods.covariance.covariance import InputCovariance

CPU = torch.device("cpu")
TOKENS = 200


class Block(nn.Module):
    """q and k read one tensor; o, up and down each their own."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 4)
        self.o, self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.o(self.q(x) + self.k(x).repeat(1, 2))
        hidden: Tensor = self.up(mixed)
        output: Tensor = self.down(hidden.relu())
        return output


READERS = [["q", "k"], ["o"], ["up"], ["down"]]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One rank, whose samples are two batches of random tokens; has an entry for each time that they were read."""
    torch.manual_seed(0)
    batches, read = torch.randn(TOKENS, 8).split(TOKENS // 2), []

    def read_samples(forward: nn.Module, _: nn.Module, __: Any, before: Callable[[bool], object], **___: Any) -> int:
        read.append(None)
        with torch.no_grad():
            for batch in batches:
                before(True)
                forward(batch)
        return TOKENS

    monkeypatch.setattr(inputs, "read_samples", read_samples)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "reduce", lambda *_: None)
    return read


def measure(model: nn.Module) -> InputCovariance:
    targets = [name for readers in READERS for name in readers]
    samples: Any = None
    return inputs.measure_inputs(
        model, model, targets, samples, "preserve.data", max_tokens=0, max_tokens_per_gpu=0, device=CPU
    )


@pytest.mark.parametrize(
    ("most", "count"), [(10**6, 1), (3 * 64, 2), (2 * 64, 3), (1, 4)], ids=["all", "three", "two", "one"]
)
def test_what_does_not_fit_in_a_pass_is_read_in_another(
    most: int, count: int, passes: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """down is wider than `most` in all but the first case, and is summed alone."""
    model = Block()
    whole = measure(model)
    passes.clear()
    monkeypatch.setattr(inputs, "MOST_SUMMED", most)
    kept = measure(model)
    assert len(passes) == count
    assert (kept.record.readers, kept.record.widths) == (READERS, [8, 8, 8, 16])
    for place, root in kept.factors.items():
        assert torch.equal(root.rows, whole.factors[place].rows)
        assert torch.equal(root.scales, whole.factors[place].scales)


def test_second_moments_of_what_each_layer_reads(passes: list[None]) -> None:
    model, seen = Block(), {}
    for readers in READERS:
        module = model.get_submodule(readers[0])
        module.register_forward_pre_hook(lambda _, x, name=readers[0]: seen.setdefault(name, []).append(x[0].double()))
    kept = measure(model)
    assert len(passes) == 1
    for place, (name, *_) in enumerate(READERS):
        x = torch.cat(seen[name])
        expected = x.T @ x / TOKENS
        assert (kept.factors[place].moment(CPU) - expected).norm() < 1e-3 * expected.norm(), name
