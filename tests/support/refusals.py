"""What is said of data that is wrong, and that nothing is left of it."""

from pathlib import Path
from typing import Any

import pytest

from osftx.config.schema import DataConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import LOCKS
from osftx.errors import ConfigurationError

MAX_SEQ_LEN = 200
GOOD = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "One."}]


def refused(tokenizer: ChatTokenizer, folder: Path, path: Any, **settings: Any) -> list[str]:
    """The problems of some data, the same whether it would be written to `folder` or not; each is one line."""
    data = DataConfig(path=path, **settings)
    found = []
    for kept_in in (folder, None):
        with pytest.raises(ConfigurationError) as caught:
            prepare(data, tokenizer, MAX_SEQ_LEN, kept_in)
        found.append(caught.value.problems)
    assert found[0] == found[1]
    assert not [left for left in folder.glob("*") if left.name != LOCKS], "nothing unfinished is left behind"
    assert not any("\n" in problem for problem in found[0])
    return found[0]
