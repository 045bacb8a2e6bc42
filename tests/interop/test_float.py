"""The float family: a cast, and nothing but the cast."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel

from support import mixdown, read, refused

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32 if tensor.element_size() == 4 else torch.int16)


def awkward(source: torch.dtype, target: torch.dtype) -> dict[str, torch.Tensor]:
    """Values where a cast can go wrong: ties, subnormals, the ends of the ranges, signed zeros."""
    generator = torch.Generator().manual_seed(3)
    any_bits = torch.randint(-(2**31), 2**31, (64, 1024), generator=generator).to(torch.int32).view(torch.float32)
    edges = [0.0, 2.0**-14, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 2.0**-133, 2.0**-134, 1e-45]
    edges += [65504.0, 65519.996, 65520.0, 3.3895314e38, 3.4028235e38]
    edges += [1.00390625, 1.01171875, 1.00048828125, 1.00146484375]
    tensors = {"any.weight": any_bits, "edges.weight": torch.tensor([edges, [-e for e in edges]])}
    cast = {name: tensor.to(source) for name, tensor in tensors.items()}
    # What is not finite, or would not be, is refused, so it is no case for a cast.
    return {name: tensor.where(tensor.to(target).isfinite(), torch.ones_like(tensor)) for name, tensor in cast.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_trained_models_cast_is_torchs(minilm, convert, dtype):
    converted = read(convert(minilm, "--to", "float", "--dtype", dtype))
    original = read(minilm / "model.safetensors")
    assert converted.keys() == original.keys()
    for name, tensor in original.items():
        want = tensor.to(DTYPES[dtype]) if tensor.is_floating_point() else tensor
        assert converted[name].dtype == want.dtype, name
        assert torch.equal(converted[name], want), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_the_cast_of_awkward_values_is_torchs_bit_for_bit(tmp_path, source, dtype):
    tensors = awkward(DTYPES[source], DTYPES[dtype])
    save_file(tensors, tmp_path / "source.safetensors", metadata={"format": "pt"})
    out = tmp_path / "out.safetensors"
    mixdown("convert", tmp_path / "source.safetensors", "--to", "float", "--dtype", dtype, "-o", out)
    converted = read(out)
    for name, tensor in tensors.items():
        want = tensor.to(DTYPES[dtype])
        different = bits(converted[name]) != bits(want)
        assert not different.any(), (name, tensor[different][:8], converted[name][different][:8], want[different][:8])


@pytest.mark.parametrize(("value", "dtype"), [(65520.0, "f16"), (3.4e38, "bf16")])
def test_what_would_become_an_infinity_is_refused(tmp_path, value, dtype):
    save_file({"a.weight": torch.tensor([[value]])}, tmp_path / "source.safetensors")
    out = tmp_path / "out.safetensors"
    assert "a.weight" in refused("convert", tmp_path / "source.safetensors", "--to", "float", "--dtype", dtype, "-o", out)
    assert not out.exists()


def test_a_bf16_model_loads_in_transformers(minilm, convert):
    model = AutoModel.from_pretrained(convert(minilm, "--to", "float", "--dtype", "bf16"), dtype=torch.bfloat16)
    original = AutoModel.from_pretrained(minilm, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    for (name, got), want in zip(model.state_dict().items(), original.state_dict().values(), strict=True):
        assert torch.equal(got, want), name
