"""What the export writes beside the weights."""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig

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
    export._copy_companions(source, folder, torch.bfloat16, ())
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {*names, "config.json"}
    assert all((folder / name).read_text() == f"content of {name}" for name in names)
    assert json.loads((folder / "config.json").read_text()) == {
        "model_type": "llama",
        "dtype": "bfloat16",
        "scale": float("inf"),
    }


def test_transformers_reads_the_stop_tokens_that_are_added(tmp_path: Path) -> None:
    """Beside the model's own, with everything else as it was, also when the next phase exports what it got."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "llama", "eos_token_id": 1}')
    for generation, stops in (({"eos_token_id": 5, "max_new_tokens": 9}, [5, 2]), (None, [1, 2])):
        (source / "generation_config.json").unlink(missing_ok=True)
        if generation is not None:
            (source / "generation_config.json").write_text(json.dumps(generation))
        export._copy_companions(source, tmp_path / "one", torch.bfloat16, [2])
        export._copy_companions(tmp_path / "one", tmp_path / "two", torch.bfloat16, [2])
        for folder in (tmp_path / "one", tmp_path / "two"):
            read = GenerationConfig.from_pretrained(folder)
            assert read.eos_token_id == stops
            assert read.max_new_tokens == (generation or {}).get("max_new_tokens")
