"""What is read from the harness's log: its progress, and why it failed."""

import pytest

from osftx.evaluation.lm_eval.start import _cause, _Shown


def test_the_cause_is_the_last_exception() -> None:
    log = (
        "Running x requests: 10%|#  | 1/10 [00:00<00:01]\r\n"
        "Traceback (most recent call last):\n  File a\nKeyError: 'first'\n\nDuring handling:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 1\n    x\nValueError: the second\nsays more\n'
    )
    assert _cause(log) == "ValueError: the second says more"
    assert _cause("one\n\ntwo\n") == "two"
    assert _cause("") == "no message was left"


def test_progress_is_shown_by_task_and_kind_of_request(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _Shown()
    for piece in (
        "osftx: task let",
        "ters\n100%|###| 9/9 [00:00]\n",
        "Running loglikelihood requests:  50%|##  | 4/8 [00:01<00:01]\r",
        "Running loglikelihood requests: 100%|####| 8/8 [00:02<00:00]\r\n",
        "Running generate_until requests: 100%|####| 3/3 [00:02<00:00]\n",
    ):
        shown.take(piece)
    shown.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0].startswith("benchmark letters: 0/8 requests")
    assert any(line.startswith("benchmark letters: 8/8 requests") for line in lines)
    assert any(line.startswith("benchmark letters: 3/3 requests") for line in lines)
    assert not any("/9" in line for line in lines)
