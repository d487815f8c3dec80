"""What the export writes beside the weights."""

import json
from pathlib import Path

import torch

from osftx.worker import export


def test_everything_beside_the_weights_is_handed_on(tmp_path: Path) -> None:
    """Byte by byte, but for the precision in config.json."""
    names = [
        *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja"),
        *(
            "chat_template.json",
            "additional_chat_templates/tool_use.jinja",
            "modeling_own.py",
            "preprocessor_config.json",
        ),
    ]
    source, folder = tmp_path / "source", tmp_path / "export"
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"content of {name}")
    (source / "config.json").write_text('{"model_type": "llama", "torch_dtype": "float16", "scale": Infinity}')
    (source / "model.safetensors").write_text("weights")
    export._copy_companions(source, folder, torch.bfloat16)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {*names, "config.json"}
    assert all((folder / name).read_text() == f"content of {name}" for name in names)
    assert json.loads((folder / "config.json").read_text()) == {
        "model_type": "llama",
        "dtype": "bfloat16",
        "scale": float("inf"),
    }
