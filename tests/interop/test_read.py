"""Models that others quantized: what mixdown reads of them is what the library computes with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sdnq
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file
from sdnq import SDNQConfig, sdnq_post_load_quant
from transformers import AutoModel, BertModel

from support import load_strict, mixdown, mixdown_json, read, refused, sdnq_layers

FLOAT = ["--to", "float", "--dtype", "f32"]


class Zoo(torch.nn.Module):
    """A layer of every kind that sdnq quantizes, with and without a bias, and a norm that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(192, 256)
        self.narrow = torch.nn.Linear(240, 64, bias=False)
        self.square = torch.nn.Linear(128, 128)
        self.tall = torch.nn.Linear(64, 5000)
        self.wide = torch.nn.Linear(5000, 64)
        self.table = torch.nn.Embedding(96, 256)
        self.conv1 = torch.nn.Conv1d(64, 96, 3)
        self.conv2 = torch.nn.Conv2d(64, 96, 3)
        self.conv3 = torch.nn.Conv3d(32, 48, 3, bias=False)
        self.point = torch.nn.Conv2d(64, 96, 1)
        self.up1 = torch.nn.ConvTranspose1d(64, 64, 4)
        self.up2 = torch.nn.ConvTranspose2d(64, 48, 3)
        self.norm = torch.nn.LayerNorm(64)


KINDS = {"quant_conv": True, "quant_embedding": True}
# What a layer is quantized with, by every setting that changes how it lies in a file.
CASES: dict[str, dict] = {
    "int8": {},
    "int8, rows": {"group_size": -1},
    "int8, groups": {"group_size": 32},
    "int8, one scale": {"group_size": -2},
    "int8, products of codes": {"use_quantized_matmul": True},
    "int8, products of codes, one scale": {"use_quantized_matmul": True, "group_size": -2},
    "int8, products of codes, groups": {"use_quantized_matmul": True, "group_size": 64},
    "int8, products of codes, low rank": {"use_quantized_matmul": True, "use_svd": True, "svd_rank": 8},
    "uint8, products of codes": {"weights_dtype": "uint8", "use_quantized_matmul": True},
    "fp8, products of codes": {"weights_dtype": "float8_e4m3fn", "use_quantized_matmul": True},
    "uint4": {"weights_dtype": "uint4"},
    "uint4, groups of 64": {"weights_dtype": "uint4", "group_size": 64},
    "uint4, low rank": {"weights_dtype": "uint4", "use_svd": True, "svd_rank": 16},
    "uint4, low rank, products of codes": {
        "weights_dtype": "uint4",
        "use_svd": True,
        "svd_rank": 16,
        "use_quantized_matmul": True,
    },
    "uint4, rotated": {"weights_dtype": "uint4", "use_hadamard": True},
    "int5, rotated in 32s, low rank": {
        "weights_dtype": "int5",
        "use_hadamard": True,
        "hadamard_group_size": 32,
        "use_svd": True,
    },
    "uint4, levels": {"weights_dtype": "uint4", "use_codebook": True, "codebook_steps": 2},
    "uint2, levels for rows": {"weights_dtype": "uint2", "use_codebook": True, "group_size": -1, "codebook_steps": 2},
    "uint8, levels": {"weights_dtype": "uint8", "use_codebook": True, "codebook_steps": 2},
    "uint1": {"weights_dtype": "uint1"},
    "float1_e1m0fnu": {"weights_dtype": "float1_e1m0fnu"},
    "int2": {"weights_dtype": "int2"},
    "int3": {"weights_dtype": "int3"},
    "uint7": {"weights_dtype": "uint7"},
    "int12": {"weights_dtype": "int12"},
    "uint16": {"weights_dtype": "uint16"},
    "float8_e4m3fn": {"weights_dtype": "float8_e4m3fn"},
    "float8_e5m2": {"weights_dtype": "float8_e5m2", "group_size": 32},
    "float8_e3m4fn": {"weights_dtype": "float8_e3m4fn", "group_size": 32},
    "float6_e3m2fn": {"weights_dtype": "float6_e3m2fn"},
    "float6_e3m3fnu": {"weights_dtype": "float6_e3m3fnu"},
    "float16_e5m10fn": {"weights_dtype": "float16_e5m10fn"},
}
TYPES = {"scale": torch.float32, "zero_point": torch.float32, "svd_up": torch.float64, "svd_down": torch.float64}
# An embedding with groups cannot be rotated or have a low-rank branch: the library itself fails at it.
NO_TABLE = [name for name, case in CASES.items() if case.keys() & {"use_svd", "use_hadamard"}]


@torch.no_grad()
def computed(layer: torch.nn.Module) -> torch.Tensor:
    """The layer's weight as the library computes it: scaled in F32, summed and rotated in F64."""
    parts = {
        key: value.to(dtype) if (value := getattr(layer, key, None)) is not None else None
        for key, dtype in TYPES.items()
    }
    dequantizer = layer.sdnq_dequantizer
    return dequantizer(
        layer.weight,
        **parts,
        skip_quantized_matmul=dequantizer.use_quantized_matmul,
        skip_compile=True,
        dtype=torch.float64,
    )


def save_zoo(folder: Path, dtype: torch.dtype = torch.float32, **settings: object) -> torch.nn.Module:
    """A zoo, quantized by sdnq and saved as its loader wants it: weights, and the config beside them."""
    torch.manual_seed(3)
    config = SDNQConfig(minimum_allowed_numel=1024, **settings)
    zoo = sdnq_post_load_quant(Zoo().to(dtype), torch_dtype=dtype, quantization_config=config)
    folder.mkdir()
    save_file({name: t.contiguous() for name, t in zoo.state_dict().items()}, folder / "model.safetensors")
    zoo.quantization_config.to_json_file(folder / "quantization_config.json")
    return zoo


def check_reading(folder: Path, model: torch.nn.Module, out: Path, note) -> None:
    """Every weight that mixdown restores is the one that the library computes; everything else is untouched."""
    mixdown("validate", folder)
    mixdown("convert", folder, *FLOAT, "-o", out)
    restored, layers, original = read(out), sdnq_layers(model), model.state_dict()
    assert layers
    for name, layer in layers.items():
        want, got = computed(layer), restored.pop(name + ".weight")
        assert got.dtype == torch.float32 and got.shape == want.shape, name
        of_row = want.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        difference = ((want - got).abs().flatten(1).amax(dim=1) / of_row).max().item()
        note("read: largest difference of a weight, of its row's maximum", difference)
        assert difference <= 1e-6, name
    for name, tensor in restored.items():
        assert torch.equal(tensor, original[name].float()), name
    parts = {f"{name}.{part}" for name in layers for part in sdnq.common.sdnq_keys}
    assert restored.keys() == original.keys() - parts


@pytest.mark.parametrize("case", CASES)
def test_what_sdnq_wrote_is_read_as_it_computes(case, tmp_path, note):
    settings = KINDS | CASES[case]
    if case in NO_TABLE:
        settings["quant_embedding"] = False
    if settings.get("group_size", 0) >= 0:
        # The library unfolds groups of a transposed convolution along the wrong dimension.
        settings["modules_quant_config"] = {name: {"group_size": -1} for name in ("up1", "up2")}
    model = save_zoo(tmp_path / "zoo", **settings)
    check_reading(tmp_path / "zoo", model, tmp_path / "out.safetensors", note)


@pytest.mark.parametrize("matmul", [False, True])
def test_half_precision_scales_and_factors_are_widened(matmul, tmp_path, note):
    settings = {"quant_conv": True, "use_svd": True, "svd_rank": 8, "use_quantized_matmul": matmul}
    settings["modules_quant_config"] = {name: {"group_size": -1} for name in ("up1", "up2")}
    for dtype in (torch.bfloat16, torch.float16):
        folder = tmp_path / str(dtype)
        model = save_zoo(folder, dtype, dequantize_fp32=False, weights_dtype="uint4", **settings)
        scales = {layer.scale.dtype for layer in sdnq_layers(model).values()}
        assert dtype in scales
        check_reading(folder, model, tmp_path / f"{dtype}.safetensors", note)


def test_layers_with_their_own_settings(tmp_path, note):
    settings = KINDS | {
        "modules_dtype_dict": {"uint4": ["conv2.weight", "*able"], "minimum_9bit": ["square"], "FLOAT8_E4M3FN": [".up"]},
        "modules_quant_config": {
            "linear": {"group_size": 64, "use_hadamard": True},
            "wide*": {"use_svd": True, "svd_rank": 4},
            "up1": {"group_size": -1},
            "up2": {"group_size": -1},
        },
        "modules_to_not_convert": ["narrow"],
        "use_quantized_matmul": True,
        "modules_to_not_use_matmul": ["tall"],
    }
    model = save_zoo(tmp_path / "zoo", **settings)
    assert "narrow" not in sdnq_layers(model)
    assert {layer.sdnq_dequantizer.weights_dtype for layer in sdnq_layers(model).values()} > {"uint4", "int9"}
    check_reading(tmp_path / "zoo", model, tmp_path / "out.safetensors", note)
    rows = {row["name"]: row for row in mixdown_json("plan", tmp_path / "zoo", *FLOAT)["tensors"]}
    assert rows["square.weight"]["from"] == "int9"
    assert mixdown_json("inspect", tmp_path / "zoo")["format"] == "sdnq"


def test_convolutions_that_were_made_matrices_stay_matrices(tmp_path):
    model = save_zoo(tmp_path / "zoo", quant_conv=True, use_quantized_matmul_conv=True)
    mixdown("convert", tmp_path / "zoo", *FLOAT, "-o", tmp_path / "out.safetensors")
    restored = read(tmp_path / "out.safetensors")
    flat = {name for name, layer in sdnq_layers(model).items() if layer.weight.ndim == 2 and "conv" in name}
    assert flat == {"conv1", "conv2", "conv3"}
    for name in flat:
        want = computed(sdnq_layers(model)[name]).flatten(1)
        assert torch.allclose(restored[name + ".weight"].double(), want, rtol=0, atol=1e-6 * want.abs().max().item())
    warnings = mixdown_json("plan", tmp_path / "zoo", *FLOAT)["warnings"]
    assert any("kernels" in w and "conv1.weight" in w for w in warnings)


def unet() -> UNet2DModel:
    torch.manual_seed(5)
    return UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


@pytest.mark.parametrize("matmul", [False, True])
def test_a_folder_of_the_librarys_own_saving(matmul, tmp_path, note):
    config = SDNQConfig(weights_dtype="int8", group_size=-1, quant_conv=True, use_quantized_matmul=matmul)
    model = sdnq_post_load_quant(unet(), torch_dtype=torch.float32, quantization_config=config)
    sdnq.save_sdnq_model(model, str(tmp_path / "unet"))
    assert (tmp_path / "unet" / "quantization_config.json").is_file()
    check_reading(tmp_path / "unet", model, tmp_path / "out.safetensors", note)
    mixdown("convert", tmp_path / "unet", *FLOAT, "-o", tmp_path / "float")
    assert not (tmp_path / "float" / "quantization_config.json").exists()
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
    restored = UNet2DModel.from_pretrained(tmp_path / "float")
    assert not sdnq_layers(restored)


def test_a_sharded_folder_that_transformers_saved(tiny_bert, tmp_path, note):
    config = SDNQConfig(weights_dtype="uint4", group_size=64, modules_to_not_convert=["pooler"])
    model = BertModel.from_pretrained(tiny_bert, quantization_config=config, dtype=torch.float32)
    model.save_pretrained(tmp_path / "bert", max_shard_size="100KB")
    assert (tmp_path / "bert" / "model.safetensors.index.json").is_file()
    assert not (tmp_path / "bert" / "quantization_config.json").exists()
    check_reading(tmp_path / "bert", model, tmp_path / "out.safetensors", note)
    mixdown("convert", tmp_path / "bert", *FLOAT, "-o", tmp_path / "float")
    assert not sdnq_layers(AutoModel.from_pretrained(tmp_path / "float"))


def test_what_was_quantized_is_quantized_again_with_a_warning(tmp_path):
    save_zoo(tmp_path / "zoo", use_quantized_matmul=True)
    done = mixdown_json("convert", tmp_path / "zoo", "--dtype", "uint4", "--svd-rank", "8", "-o", tmp_path / "again")
    assert any("quantized already" in w for w in done["warnings"])
    row = next(row for row in done["tensors"] if row["name"] == "linear.weight")
    assert (row["from"], row["to"], row["shape"]) == ("int8", "uint4", [256, 192])
    assert 0 < row["relative_error"] < 0.1


def test_scales_that_are_quantized_themselves_are_refused(tmp_path):
    save_zoo(tmp_path / "zoo", scale_dtype="uint8")
    message = refused("convert", tmp_path / "zoo", *FLOAT, "-o", tmp_path / "out")
    assert "scale_dtype" in message and "linear" in message
    refused("validate", tmp_path / "zoo")


def test_what_the_strict_loader_refuses_does_not_pass(tiny_bert, tmp_path):
    config = SDNQConfig(weights_dtype="uint4", group_size=64)
    model = sdnq_post_load_quant(BertModel.from_pretrained(tiny_bert), quantization_config=config)
    folder = tmp_path / "bert"
    sdnq.save_sdnq_model(model, str(folder))
    mixdown("validate", folder, "--against", tiny_bert)
    load_strict(folder)
    good = read(folder)
    layer = next(iter(sdnq_layers(model)))
    changes: list[Callable[[dict], object]] = [
        lambda t: t.pop(f"{layer}.scale"),
        lambda t: t.pop(f"{layer}.zero_point"),
        lambda t: t.update({f"{layer}.scale": t[f"{layer}.scale"].flatten(1)}),
        lambda t: t.update({f"{layer}.weight": t[f"{layer}.weight"][:-1]}),
        lambda t: t.update({f"{layer}.svd_up": torch.zeros(192, 8)}),
    ]
    for change in changes:
        tensors = dict(good)
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(RuntimeError):
            load_strict(folder)
        refused("validate", folder)
