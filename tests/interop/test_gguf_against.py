"""A GGUF file held against the folder it was made from, whose tensors have other names, orders and types."""

import json
import subprocess
from pathlib import Path

import gguf
import pytest

from support import BINARY, mixdown

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo" / "model"


def zeroed(path: Path, name: str) -> None:
    """Zeros in the place of a tensor's first half."""
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
    with path.open("r+b") as file:
        file.seek(int(tensor.data_offset))
        file.write(bytes(int(tensor.n_bytes) // 2))


@pytest.mark.parametrize("mixture", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])
def test_what_was_made_of_a_folder_passes(tmp_path, mixture):
    out = tmp_path / f"demo-{mixture}.gguf"
    mixdown("convert", DEMO, "--dtype", mixture, "-o", out)
    mixdown("validate", out, "--against", DEMO)


def test_what_was_made_of_minilm_passes(minilm, tmp_path):
    for mixture in ["F16", "Q4_K_M"]:
        out = tmp_path / f"mini-{mixture}.gguf"
        mixdown("convert", minilm, "--dtype", mixture, "-o", out)
        mixdown("validate", out, "--against", minilm)


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "blk.2.attn_norm.weight"])
def test_another_models_values_are_named(tmp_path, name):
    out = tmp_path / "demo-F16.gguf"
    mixdown("convert", DEMO, "--dtype", "F16", "-o", out)
    zeroed(out, name)
    run = subprocess.run([BINARY, "validate", out, "--against", DEMO, "--json"], capture_output=True, text=True)
    assert run.returncode == 1
    errors = [check["detail"] for check in json.loads(run.stdout)["checks"] if check["level"] == "error"]
    assert len(errors) == 1 and name in errors[0]
