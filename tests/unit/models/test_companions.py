"""Which files of a model folder checkpoints take over."""

from pathlib import Path

import pytest

from osftx.errors import ConfigurationError
from osftx.models.companions import check_companions, companions


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home" / ".ssh" / "id_rsa"
    path.parent.mkdir(parents=True)
    path.write_text("private")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "LICENSE.md"):
        (folder / name).write_text("{}")
    return folder


def test_unknown_files_stay_where_they_are(model: Path, secret: Path) -> None:
    for name in ("notes.txt", "credentials.json", ".env", "id_rsa", "optimizer.pt", "model.safetensors"):
        (model / name).write_text("x")
    (model / "keys.txt").symlink_to(secret)
    (model / "gone.json").symlink_to("nowhere")
    assert [path.name for path in companions(model)] == ["LICENSE.md", "config.json", "tokenizer.json"]
    check_companions(model, "model.path")


@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "LICENSE", "own_config.json", "chat_template.jinja"])
def test_a_link_out_of_the_folder_is_refused(model: Path, secret: Path, name: str) -> None:
    (model / name).symlink_to(secret)
    with pytest.raises(ConfigurationError, match=rf"model.path=.*model: {name} is a link to {secret}"):
        check_companions(model, "model.path")
    with pytest.raises(ConfigurationError, match="put a copy in its place"):
        companions(model)


def test_a_linked_folder_of_templates_is_refused(model: Path, secret: Path) -> None:
    (secret.parent / "a.jinja").write_text("private")
    (model / "additional_chat_templates").symlink_to(secret.parent)
    with pytest.raises(ConfigurationError, match="is a link to"):
        companions(model)


def test_the_cache_of_the_hub_is_made_of_links(tmp_path: Path, secret: Path) -> None:
    repository = tmp_path / "models--a--b"
    blobs, folder = repository / "blobs", repository / "snapshots" / "abc"
    folder.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "123").write_text("{}")
    (folder / "config.json").symlink_to("../../blobs/123")
    (folder / "generation_config.json").symlink_to("config.json")
    assert [path.name for path in companions(folder)] == ["config.json", "generation_config.json"]
    (blobs / "124").symlink_to(secret)
    (folder / "vocab.txt").symlink_to("../../blobs/124")
    with pytest.raises(ConfigurationError, match="is a link to"):
        companions(folder)


def test_a_folder_may_be_a_link_itself(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    assert len(companions(tmp_path / "link")) == 3
