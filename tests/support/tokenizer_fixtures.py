from collections.abc import Callable
from pathlib import Path

import pytest
from chat_family import TEMPLATES, save_tokenizer, train_tokenizer
from tokenizers import Tokenizer

from osftx.data.chat.tokenizer import ChatTokenizer


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return train_tokenizer()


@pytest.fixture(scope="session")
def folders(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer folder for each template of the family."""
    root = tmp_path_factory.mktemp("tokenizers")
    return {name: save_tokenizer(root / name, bpe, template) for name, template in TEMPLATES.items()}


@pytest.fixture(params=TEMPLATES)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Runs a test once for each template."""
    return folders[request.param]


@pytest.fixture
def chatml(folders: dict[str, Path]) -> ChatTokenizer:
    return ChatTokenizer.load(str(folders["chatml"]))


@pytest.fixture
def with_template(bpe: Tokenizer, tmp_path: Path) -> Callable[[str], ChatTokenizer]:
    """Makes a tokenizer with any chat template."""

    def make(template: str) -> ChatTokenizer:
        return ChatTokenizer.load(str(save_tokenizer(tmp_path / "tokenizer", bpe, template)))

    return make
