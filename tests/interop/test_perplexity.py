"""The demo as GGUF in llama.cpp: held text is as likely as transformers finds it, and what is written is the same."""

import numpy as np
import pytest
import torch

import llama
from perplexity import DEMO, MIXTURES, Original, Window, perplexity
from support import mixdown, refused

TEXT = (DEMO / "heldout.txt").read_bytes().decode()
# Left out of the table: not written, or no mixture of its own.
OTHERS = {"IQ1_S", "IQ1_M", "COPY", "Q3_K", "Q4_K", "Q5_K", "MXFP4", "NVFP4"}


@pytest.fixture(scope="module")
def source():
    # One thread: two that wait for each other on a busy machine take many times as long.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Original(DEMO / "model")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def windows(source) -> list[Window]:
    """A quarter of the text: 64 windows of 256 bytes."""
    return source.windows(TEXT, 256)[:64]


@pytest.fixture(scope="module")
def expected(source, windows) -> float:
    return perplexity(source, windows)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")

    def convert(mixture: str):
        out = folder / f"{mixture}.gguf"
        if not out.exists():
            mixdown("convert", "--demo", "--dtype", mixture, "-o", out)
        return out

    return convert


def test_every_byte_is_scored_once_and_never_seen_before(source):
    windows = source.windows(TEXT, 256)
    assert [token for _, targets in windows for token in targets] == list(TEXT.encode())
    assert all(inputs == [256, *targets[:-1]] for inputs, targets in windows)


@pytest.mark.parametrize(("mixture", "least", "most"), [("F16", -0.5, 0.5), ("Q8_0", -1, 1), ("Q2_K", 1, 10)])
def test_perplexity_in_llama_cpp(mixture, least, most, demo, windows, expected, note):
    """In percent above the original's; the last shows that the scale tells one model from another."""
    with llama.Model(demo(mixture), 256) as model:
        more = 100 * (perplexity(model, windows) / expected - 1)
    note(f"perplexity of the demo as {mixture}, in percent above torch's", more)
    assert least < more < most


def test_llama_cpp_reads_the_text_as_the_same_tokens(source, demo):
    with llama.Model(demo("F16"), 256) as model:
        assert model.tokenize(TEXT) == source.tokenizer.encode(TEXT, add_special_tokens=False)


@pytest.mark.parametrize("prompt", ["Sir John", "My dear ", "The letter was "])
def test_llama_cpp_writes_what_transformers_does(prompt, source, demo):
    tokens, written = source.tokenizer.encode(prompt), []
    assert tokens == [256, *prompt.encode()]
    for _ in range(16):
        logits = source.logits(tokens + written)[-1]
        second, first = np.sort(logits)[-2:]
        assert first - second > 0.05, f"two tokens are almost as likely after {written}: take another prompt"
        written.append(int(logits.argmax()))
    answer = llama.complete(demo("F16"), prompt, len(written))
    assert answer["choices"][0]["text"] == source.tokenizer.decode(written)


def test_the_script_knows_every_mixture():
    message = refused("plan", "--demo", "--to", "gguf", "--dtype", "no such", code=2)
    assert set(message.strip().split("it has ")[1].split(", ")) == {*MIXTURES, *OTHERS}
