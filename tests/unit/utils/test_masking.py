"""Which parts of a text are secrets."""

import pytest

from osftx.utils.masking import mask, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa55@db:5432/optuna", "postgresql://me:***@db:5432/optuna"),
        (
            "hydra.sweeper.storage=mysql+pymysql://me:p@ss/w:rd@db/x",
            "hydra.sweeper.storage=mysql+pymysql://me:***@db/x",
        ),
        ("https://:tok@host/file.jsonl", "https://:***@host/file.jsonl"),
        ("model.path=org/name hf_abcdefghijKLMN", "model.path=org/name ***"),
        ("callbacks=[{settings: {api_key: abc, every: 5}}]", "callbacks=[{settings: {api_key: ***, every: 5}}]"),
        ("++phases.a.method_settings.hf_token=abc", "++phases.a.method_settings.hf_token=***"),
        ('{"password": "a b c", "x": 1}', '{"password": ***, "x": 1}'),
        ("s3://bucket/x?AccessKey=abc&secret=def&y=1", "s3://bucket/x?AccessKey=***&secret=***&y=1"),
        ("Authorization: sk-abcdefghijklmnop1234", "Authorization: ***"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "training.max_tokens_per_gpu=4096",
        "eos_token=</s> pad_token: <pad>",
        "data.special_tokens=as_text",
        "distributed.secret_file=~/mine",
        "http://host:8080/path and me@host",
        "tokens: 120",
        "api_key=null",
        "api_key=${oc.env:KEY}",
        "sk-learn, hf_hub",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert mask(text) == text


def test_the_value_of_a_variable_that_names_a_secret_is_masked_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    assert mask("x=0123456789 abc") == "x=*** abc"


def test_nested_data_is_masked_by_its_keys_and_texts() -> None:
    content = {
        "api_key": "abc",
        "list": [{"token": "t", "eos_token": "</s>"}],
        "url": "a://b:c@d",
        "n": 1,
        "secret": None,
    }
    assert masked(content) == {
        "api_key": "***",
        "list": [{"token": "***", "eos_token": "</s>"}],
        "url": "a://b:***@d",
        "n": 1,
        "secret": None,
    }
