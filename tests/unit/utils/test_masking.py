"""Which parts of a text are secrets."""

import time
from pathlib import Path

import pytest

from osftx.utils.masking import mask, mask_override, masked, seal_of, sealed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa55@db:5432/optuna", "postgresql://me:***@db:5432/optuna"),
        (
            "hydra.sweeper.storage=mysql+pymysql://me:p@ss/w:rd@db/x",
            "hydra.sweeper.storage=mysql+pymysql://me:***@db/x",
        ),
        ("https://:tok@host/file.jsonl", "https://:***@host/file.jsonl"),
        ("model.path=org/name hf_abcdefghijKLMNopqrstuvwxyz01234567", "model.path=org/name ***"),
        ("callbacks=[{settings: {api_key: abc, every: 5}}]", "callbacks=[{settings: {api_key: ***, every: 5}}]"),
        ("++phases.a.method_settings.hf_token=abc", "++phases.a.method_settings.hf_token=***"),
        ('{"password": "a b c", "x": 1}', '{"password": ***, "x": 1}'),
        ("s3://bucket/x?AccessKey=abc&secret=def&y=1", "s3://bucket/x?AccessKey=***&secret=***&y=1"),
        ("Authorization: Bearer xyz", "Authorization: ***"),
        ("https://abcdefgh@host/x", "https://***@host/x"),
        ("postgresql://u:pass word@h", "postgresql://u:***@h"),
        ("https://h/x?sig=abc%2F&y=1", "https://h/x?sig=***&y=1"),
        ("https://h/x?X-Amz-Signature=abc&y=1", "https://h/x?X-Amz-Signature=***&y=1"),
        ("API-KEY: abc", "API-KEY: ***"),
        ("AccountKey=abc==;x=1", "AccountKey=***;x=1"),
        ("x ASIAABCDEFGHIJKLMNOP", "x ***"),
        ("x nvapi-" + "a1" * 20, "x ***"),
        ('{"password": "a\\"b", "x": 1}', '{"password": ***, "x": 1}'),
        ("password=it's x=1", "password=*** x=1"),
        ("db.password=a b c", "db.password=***"),
        ("password: ${oc.env:X,real}", "password: ***"),
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
        "/models/hf_checkpoints/a",
        "/d/sk-learn-experiments-2024/x",
        "max_new_tokens=5 loss_per_token: 3",
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


@pytest.mark.parametrize("value", ["a b c", "a&b", "a,b", "it's", "abc}def", "${oc.env:X,real}", "12345678", "{v: a}"])
def test_the_whole_value_of_an_override_is_masked(value: str) -> None:
    assert mask_override(f"++x.password={value}") == "++x.password=***"
    assert mask_override("x.password=${oc.env:X}") == "x.password=${oc.env:X}"


@pytest.mark.parametrize("value", [12345678, 1.5, {"v": "abc"}, ["abc"], [{"v": 7}], "${oc.env:X,real}"])
def test_everything_below_a_key_that_names_a_secret_is_masked(value: object) -> None:
    shown = str(masked({"passwords": value, "token": value, "wandb_key": value, "auth": value}))
    assert "***" in shown
    assert not any(secret in shown for secret in ("1234", "1.5", "abc", "7", "real"))


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "MY_SECRET"])
def test_a_folder_in_the_environment_is_no_secret(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, str(tmp_path))
    assert mask(f"output_dir={tmp_path}/x") == f"output_dir={tmp_path}/x"


@pytest.mark.parametrize("part", ["a", "a-", "a.", "token", "a://", "a://b:", "eyJ-", "sk-", "hf_", "token ", "auth="])
def test_long_texts_are_masked_in_linear_time(part: str) -> None:
    begin = time.process_time()
    mask(part * (40_000 // len(part)))
    assert time.process_time() - begin < 5


def test_a_seal_tells_secrets_apart_without_holding_them() -> None:
    seal = sealed({"password": "first-secret", "x": 1})
    assert seal == sealed({"x": 1, "password": "first-secret"}) == seal_of(f"{seal}\nx: 1")
    assert seal != sealed({"password": "other-secret", "x": 1})
    assert "first-secret" not in seal
    assert sealed({"x": 1}) == seal_of("x: 1") == ""
