"""Plain fine-tuning: what it refuses."""

from valid_config import changed

from osftx.planning.validate import problems


def test_it_takes_no_ratio() -> None:
    (line,) = problems(changed(phases__first__method="sft", phases__first__unfreeze_rank_ratio=0.3))
    assert line.startswith("phases.first.unfreeze_rank_ratio=0.3: sft")
    assert "set it to null" in line
