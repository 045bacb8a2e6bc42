"""Tiny random Llamas as GGUF files, importance matrices for them, and what ggml and llama.cpp make of them.

Both come with the xllamacpp wheel, whose library exports ggml's C functions.
"""

import ctypes
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

LAYERS, EMBEDDING, HEADS, KV_HEADS, FEED_FORWARD, EXPERTS = 4, 256, 4, 2, 384, 8
VOCABULARY = 320
GGML = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
ERROR = 4
GGML.ggml_quantize_chunk.restype = ctypes.c_size_t
GGML.ggml_quantize_chunk.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
]  # fmt: skip


class Params(ctypes.Structure):
    """Parameters of a model or a context: more than either has, so that they pass through as the library filled them."""

    _fields_ = [("words", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def declare(name: str, result, *arguments) -> None:
    function = getattr(GGML, name)
    function.restype, function.argtypes = result, arguments


P, I32 = ctypes.c_void_p, ctypes.c_int32
declare("llama_model_default_params", Params)
declare("llama_context_default_params", Params)
declare("llama_model_load_from_file", P, ctypes.c_char_p, Params)
declare("llama_init_from_model", P, P, Params)
declare("llama_model_get_vocab", P, P)
declare("llama_vocab_n_tokens", I32, P)
declare("llama_tokenize", I32, P, ctypes.c_char_p, I32, P, I32, ctypes.c_bool, ctypes.c_bool)
declare("llama_get_memory", P, P)
declare("llama_memory_clear", None, P, ctypes.c_bool)
declare("llama_batch_init", Batch, I32, I32, I32)
declare("llama_batch_free", None, Batch)
declare("llama_decode", I32, P, Batch)
declare("llama_get_logits", ctypes.POINTER(ctypes.c_float), P)
declare("llama_free", None, P)
declare("llama_model_free", None, P)
declare("llama_log_get", None, P, P)
declare("llama_log_set", None, P, P)


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


def complete(path: Path, prompt: str, words: int, **more) -> dict:
    """Loads a file with llama.cpp and lets it write the likeliest: its answer."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = 128, 1, False
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    asked = {"prompt": prompt, "n_predict": words, "temperature": 0, "ignore_eos": True}
    answer = server.handle_completions(asked | more)
    assert answer["usage"]["completion_tokens"] == words
    return answer


def runs(path: Path, words=8) -> list[int]:
    """What a file writes: the tokens, those that are halves of a character left out."""
    answer = complete(path, "12 34", words, logprobs=1)
    # Nothing where all are halves.
    chosen = (answer["choices"][0]["logprobs"] or {"content": []})["content"]
    assert all(np.isfinite(token["logprob"]) for token in chosen)
    return [token["id"] for token in chosen]


@contextmanager
def listening():
    """Keeps the library's log off the terminal, and its errors."""
    said, before, data = [], P(), P()

    @LOG
    def log(level, text, _):
        if level == ERROR:
            said.append(text.decode(errors="replace").strip())

    GGML.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    GGML.llama_log_set(ctypes.cast(log, P), None)
    try:
        yield said
    finally:
        GGML.llama_log_set(before, data)


class Model:
    """A file in llama.cpp, with its defaults for all but the length of the context; asked for logits by its C functions.

    xllamacpp's own class gives the probabilities of what is generated, not of a text that is given.
    """

    def __init__(self, path: Path, context: int, threads: int = 1):
        self.model = self.context = None
        with listening() as said:
            self.model = GGML.llama_model_load_from_file(str(path).encode(), GGML.llama_model_default_params())
            params = GGML.llama_context_default_params()
            # n_ctx, n_batch, n_ubatch and the two numbers of threads.
            assert [*params.words[:3], *params.words[7:9]] == [512, 2048, 512, 4, 4], "another llama_context_params"
            params.words[:3], params.words[7:9] = [context] * 3, [threads] * 2
            self.context = self.model and GGML.llama_init_from_model(self.model, params)
        if not self.context:
            self.close()
            raise RuntimeError(f"llama.cpp does not load {path}: {'; '.join(said)}")
        self.vocab = GGML.llama_model_get_vocab(self.model)
        self.batch = GGML.llama_batch_init(context, 0, 1)

    def tokenize(self, text: str) -> list[int]:
        """Without special tokens."""
        data = text.encode()
        out = (ctypes.c_int32 * len(data))()
        count = GGML.llama_tokenize(self.vocab, data, len(data), out, len(out), False, False)
        return out[:count]

    def logits(self, tokens: list[int]) -> np.ndarray:
        """A row for each of `tokens`, which begin at position 0: what follows it."""
        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token, i, 1
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, 0
        self.batch.n_tokens = len(tokens)
        GGML.llama_memory_clear(GGML.llama_get_memory(self.context), True)
        status = GGML.llama_decode(self.context, self.batch)
        assert status == 0, f"llama_decode: {status}"
        shape = (len(tokens), GGML.llama_vocab_n_tokens(self.vocab))
        return np.ctypeslib.as_array(GGML.llama_get_logits(self.context), shape).copy()

    def close(self) -> None:
        with listening():
            if self.context:
                GGML.llama_batch_free(self.batch)
                GGML.llama_free(self.context)
            if self.model:
                GGML.llama_model_free(self.model)
        self.model = self.context = None

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_) -> None:
        self.close()
