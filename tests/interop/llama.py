"""Tiny random Llamas as GGUF files, importance matrices for them, and what ggml and llama.cpp make of them.

Both come with the xllamacpp wheel, whose library exports ggml's C functions.
"""

import ctypes
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

LAYERS, EMBEDDING, HEADS, KV_HEADS, FEED_FORWARD, EXPERTS = 4, 256, 4, 2, 384, 8
VOCABULARY = 320
GGML = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
GGML.ggml_quantize_chunk.restype = ctypes.c_size_t
GGML.ggml_quantize_chunk.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
]  # fmt: skip


def shapes(tied=False, experts=0):
    """Names and shapes, in numpy's order."""
    yield "token_embd.weight", (VOCABULARY, EMBEDDING)
    yield "output_norm.weight", (EMBEDDING,)
    if not tied:
        yield "output.weight", (VOCABULARY, EMBEDDING)
    head = EMBEDDING // HEADS
    bank, ending = ((experts,), "_exps") if experts else ((), "")
    for i in range(LAYERS):
        yield f"blk.{i}.attn_norm.weight", (EMBEDDING,)
        yield f"blk.{i}.attn_q.weight", (EMBEDDING, EMBEDDING)
        yield f"blk.{i}.attn_k.weight", (KV_HEADS * head, EMBEDDING)
        yield f"blk.{i}.attn_v.weight", (KV_HEADS * head, EMBEDDING)
        yield f"blk.{i}.attn_output.weight", (EMBEDDING, EMBEDDING)
        yield f"blk.{i}.ffn_norm.weight", (EMBEDDING,)
        if experts:
            yield f"blk.{i}.ffn_gate_inp.weight", (experts, EMBEDDING)
        yield f"blk.{i}.ffn_gate{ending}.weight", (*bank, FEED_FORWARD, EMBEDDING)
        yield f"blk.{i}.ffn_up{ending}.weight", (*bank, FEED_FORWARD, EMBEDDING)
        yield f"blk.{i}.ffn_down{ending}.weight", (*bank, EMBEDDING, FEED_FORWARD)


def write_llama(path: Path, tied=False, experts=0, dtype="f32", alignment=None, **options) -> Path:
    """A model of random weights that llama.cpp loads and runs; dtype f32, f16 or bf16."""
    rng = np.random.default_rng(11)
    writer = gguf.GGUFWriter(path, "llama", **options)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"▁{i}" for i in range(VOCABULARY - len(tokens))]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (VOCABULARY - 259)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-i) for i in range(VOCABULARY)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, shape in shapes(tied, experts):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        # Heavier tails than a normal distribution has: some rows have outliers, as real ones do.
        weights = (rng.standard_t(5, shape) * 0.05).astype(np.float32)
        match dtype:
            case "f32":
                writer.add_tensor(name, weights)
            case "f16":
                writer.add_tensor(name, weights.astype(np.float16))
            case "bf16":
                kind = gguf.GGMLQuantizationType.BF16
                writer.add_tensor(name, gguf.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def importance(tied=False, experts=0) -> dict[str, np.ndarray]:
    """A matrix for each weight of a layer: experts by columns."""
    rng = np.random.default_rng(12)
    wanted = {n: s for n, s in shapes(tied, experts) if n.startswith("blk.") and len(s) > 1 and "_inp" not in n}
    draw = {n: np.exp(rng.normal(0, 1.5, (s[0] if len(s) > 2 else 1, s[-1]))) for n, s in wanted.items()}
    return {n: values.astype(np.float32) for n, values in draw.items()}


def write_imatrix(path: Path, entries: dict[str, np.ndarray]) -> Path:
    """As llama-imatrix writes it; of one token for each matrix, so that means are the sums."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["words.txt"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in entries.items():
        writer.add_tensor(f"{name}.in_sum2", values)
        writer.add_tensor(f"{name}.counts", np.ones((len(values), 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path: Path) -> dict[str, tuple[gguf.GGMLQuantizationType, np.ndarray]]:
    """Types and bytes, as the gguf package reads them; several files are read one after another."""
    return {t.name: (t.tensor_type, t.data) for t in gguf.GGUFReader(path).tensors}


def ggml_bytes(kind: gguf.GGMLQuantizationType, weights: np.ndarray, weight_of: np.ndarray | None) -> bytes:
    """What ggml's own C code makes of weights; `weight_of` has a row for each matrix."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    cols = weights.shape[-1]
    matrices = np.ascontiguousarray(weights.reshape(-1, *weights.shape[-2:]), np.float32)
    out = bytearray()
    for i, matrix in enumerate(matrices):
        made = np.zeros(matrix.size // block * size, np.uint8)
        columns = None if weight_of is None else np.ascontiguousarray(weight_of[i], np.float32)
        pointer = None if columns is None else columns.ctypes.data
        written = GGML.ggml_quantize_chunk(kind, matrix.ctypes.data, made.ctypes.data, 0, len(matrix), cols, pointer)
        assert written == made.size, f"{kind.name}: {written} bytes, not {made.size}"
        out += made.tobytes()
    return bytes(out)


def runs(path: Path, words=8) -> list[int]:
    """Loads a file with llama.cpp and lets it write: the tokens, those that are halves of a character left out."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = 128, 1, False
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    asked = {"prompt": "12 34", "n_predict": words, "temperature": 0, "ignore_eos": True, "logprobs": 1}
    answer = server.handle_completions(asked)
    assert answer["usage"]["completion_tokens"] == words
    # Nothing where all are halves.
    chosen = (answer["choices"][0]["logprobs"] or {"content": []})["content"]
    assert all(np.isfinite(token["logprob"]) for token in chosen)
    return [token["id"] for token in chosen]
