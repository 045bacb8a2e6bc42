"""What ComfyUI-GGUF asks of a file, restated over PyPI's `gguf` alone, and what its converter makes of a state dict.

    python tests/interop/comfy_gguf_rules.py FILE

tells what its loader would refuse. As a module:

    faults(path, text)      what the loader fails on; an empty list where nothing is wrong
    state_dict(path, text)  the tensors under the names and in the shapes that ComfyUI gets them, dequantized
    converted(arch, state)  type, bytes and shape of each tensor of the converter's output, and its shape keys

Rules are those of ComfyUI-GGUF 2.0.0 (`loader.py`, `tools/convert.py`, `tools/fix_5d_tensors.py`).
"""

import sys
from pathlib import Path

import gguf
import numpy as np

IMAGE = {"flux", "sd1", "sdxl", "sd3", "aura", "hidream", "cosmos", "ltxv", "hyvid", "wan", "lumina2", "qwen_image"}
TEXT = {"t5", "t5encoder", "llama", "qwen2vl", "qwen3", "qwen3vl"}
SHAPE = "comfy.gguf.orig_shape."
# Names of which every one of a line must be there.
DETECTED = {
    "flux": [{"double_blocks.0.img_attn.proj.weight"}],
    "sd3": [{"joint_blocks.0.x_block.attn.qkv.weight"}],
    "aura": [{"double_layers.3.modX.1.weight"}],
    "hidream": [{"caption_projection.0.linear.weight", "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight"}],
    "cosmos": [{"blocks.0.mlp.layer1.weight", "blocks.0.adaln_modulation_cross_attn.1.weight"}],
    "ltxv": [{"adaln_single.emb.timestep_embedder.linear_2.weight", "caption_projection.linear_2.weight"}],
    "hyvid": [{"double_blocks.0.img_attn_proj.weight"}],
    "wan": [{"blocks.0.self_attn.norm_q.weight", "text_embedding.2.weight", "head.modulation"}],
    "sdxl": [{"label_emb.0.0.weight"}],
    "lumina2": [{"cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"}],
}
PRECISE = {
    "hidream": (".ff_i.gate.weight", "img_emb.emb_pos"),
    "cosmos": ("pos_embedder",),
    "wan": (".modulation",),
    "ltxv": ("scale_shift_table",),
}
# Parts of llama.cpp's names for a T5, and what they become, one after another.
T5 = {
    "enc.": "encoder.",
    ".blk.": ".block.",
    "token_embd": "shared",
    "output_norm": "final_layer_norm",
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_norm": "layer.0.layer_norm",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_norm": "layer.1.layer_norm",
}


def architecture(reader: gguf.GGUFReader) -> str:
    field = reader.get_field("general.architecture")
    return "" if field is None else bytes(field.parts[field.data[-1]]).decode()


def stated_shape(reader: gguf.GGUFReader, name: str) -> tuple[int, ...] | None:
    field = reader.get_field(SHAPE + name)
    if field is None:
        return None
    assert field.types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32], f"{SHAPE}{name}: {field.types}"
    return tuple(int(field.parts[i][0]) for i in field.data)


def faults(path: Path, text: bool = False) -> list[str]:
    reader = gguf.GGUFReader(path)
    wrong = []
    arch = architecture(reader)
    if arch not in (TEXT if text else IMAGE):
        wrong.append(f"unexpected architecture {arch!r}")
    names = {tensor.name for tensor in reader.tensors}
    if arch in DETECTED and not any(marks <= names for marks in DETECTED[arch]):
        wrong.append(f"no {arch} model is recognised by these names")
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        try:
            stated = stated_shape(reader, tensor.name)
        except AssertionError as e:
            wrong.append(str(e))
            continue
        if stated is not None and np.prod(stated) != np.prod(shape):
            wrong.append(f"{tensor.name} of {shape} is not of the stated {stated}")
        if len(tensor.name.encode()) > 127:
            wrong.append(f"{tensor.name} is a name of more than 127 bytes")
        if len(shape) > 4 and tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            wrong.append(f"{tensor.name} has {len(shape)} dimensions and is {tensor.tensor_type.name}")
        if len(shape) <= 1 and tensor.tensor_type not in (
            gguf.GGMLQuantizationType.F32,
            gguf.GGMLQuantizationType.F16,
            gguf.GGMLQuantizationType.BF16,
        ):
            wrong.append(f"{tensor.name} is a vector and {tensor.tensor_type.name}")
        try:
            gguf.dequantize(tensor.data, tensor.tensor_type)
        except Exception as e:
            wrong.append(f"{tensor.name}: {tensor.tensor_type.name} is not decoded: {e}")
    stray = [k for k in reader.fields if k.startswith(SHAPE) and k.removeprefix(SHAPE) not in names]
    return wrong + [f"{key} is of no tensor" for key in stray]


def state_dict(path: Path, text: bool = False) -> dict[str, np.ndarray]:
    reader = gguf.GGUFReader(path)
    state = {}
    for tensor in reader.tensors:
        shape = stated_shape(reader, tensor.name) or tuple(int(n) for n in reversed(tensor.shape))
        name = tensor.name
        if text and architecture(reader) in ("t5", "t5encoder"):
            for part, becomes in T5.items():
                name = name.replace(part, becomes)
        assert name not in state, name
        state[name] = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
    return state


def converted(arch: str, state: dict) -> tuple[dict[str, tuple], dict[str, tuple[int, ...]]]:
    """Of torch tensors under the original names."""
    import torch

    kinds, tensors, shapes = gguf.GGMLQuantizationType, {}, {}
    for name, tensor in state.items():
        plain = tensor.dtype in (torch.float32, torch.bfloat16)
        kind = kinds.BF16 if tensor.dtype == torch.bfloat16 else kinds.F16
        shape, count = tuple(tensor.shape), tensor.numel()
        precise = any(part in name for part in PRECISE.get(arch, ()))
        if len(shape) > 4 or (plain and (len(shape) == 1 or count <= 1024 or precise)):
            kind = kinds.F32
        values = tensor.to(torch.float32).numpy()
        if arch in ("sd1", "sdxl") and len(shape) > 1 and count >= 512 and count % 256 == 0 and shape[-1] % 256:
            shapes[name] = shape
            values = values.reshape(count // 256, 256)
        tensors[name] = (kind, gguf.quantize(values, kind).tobytes(), values.shape)
    return tensors, shapes


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]), text="--text" in sys.argv)
    print("\n".join(found) or "ComfyUI-GGUF would load it")
    sys.exit(bool(found))
