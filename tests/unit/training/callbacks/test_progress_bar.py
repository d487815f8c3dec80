"""What the bar of a phase shows."""

import pytest
from callback_status import status

from osftx.training.callbacks.progress_bar import ProgressBar
from osftx.training.progress import Progress


def test_the_last_validation_loss_is_shown_until_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    done = Progress()
    with ProgressBar("training study", done) as bar:
        bar.on_phase_start(status(steps=1))
        done.validation.append({"step": 2, "loss": 0.25, "token_accuracy": 1.0})
        for loss in (3.0, 2.0):
            bar.on_step(status(), {"loss": loss, "lr": 1e-3})
        assert bar.bar is not None
        assert bar.bar.n == 3
        assert bar.bar.postfix == "loss=2.0000, lr=1.00e-03, val_loss=0.2500"
    assert "training study: 3/4" in capsys.readouterr().out
