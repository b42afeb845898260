"""Write llama_cpp.json: what llama.cpp computes from GGUF files of tiny models that we write.

    python tests/parity/references/make_llama_cpp.py

Needs llama-cpp-python. No weights are stored: they follow from names. Each file's hash is, so that a test can say that
what llama.cpp once read is byte for byte what we write today.
"""

import hashlib
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from ownlm.model.checkpoint import Checkpoint  # noqa: E402
from ownlm.model.formats.gguf_write import write_gguf  # noqa: E402
from tiny_checkpoints import checkpoint_of, tiny_fields, tiny_shapes  # noqa: E402

IDS = [(7 * number + number**2) % 96 for number in range(48)]
# Every eighth logit is kept, of every fourth token.
KEPT = (slice(3, None, 4), slice(None, None, 8))
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
_PAIRS = {"short_factor": [1.0 + n / 16 for n in range(8)], "long_factor": [1.5 + n for n in range(8)]}


def _rope(kind: str, **values: Any) -> dict[str, Any]:
    """One scaling in both spellings."""
    scaling = {"rope_type": kind, **values}
    return {"rope_scaling": scaling, "rope_parameters": {**scaling, "rope_theta": 10_000.0}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        kind: (kind, {})
        for kind in ("llama", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "gpt2", "gpt_neox")
    },
    **{kind: (kind, {}) for kind in ("olmo2", "phi3", "granite")},
    # llama.cpp computes no window of Mistral's.
    "mistral": ("mistral", {"sliding_window": 64}),
    "llama, untied": ("llama", {"tie_word_embeddings": False}),
    "llama, llama3": ("llama", _rope("llama3", **_LLAMA3)),
    "llama, linear": ("llama", _rope("linear", factor=4.0)),
    "qwen2, yarn": ("qwen2", _rope("yarn", factor=4.0, original_max_position_embeddings=16)),
    "phi3, longrope": (
        "phi3",
        {
            **_rope("longrope", **_PAIRS, original_max_position_embeddings=16),
            "original_max_position_embeddings": 16,
        },
    ),
    "gpt_neox, one after the other": ("gpt_neox", {"use_parallel_residual": False}),
}
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": [f"t{number}" for number in range(96)],
    "tokenizer.ggml.token_type": [1] * 96,
    "tokenizer.ggml.merges": ["t 1"],
}


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers between -0.25 and 0.25, or about one for a norm, exact on every machine."""
    whole = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).integers(-256, 257, shape)
    values = torch.from_numpy(whole.astype(np.float32) / 1024)
    return values + 1 if len(shape) == 1 and name.endswith("weight") else values


def checkpoint(case: str) -> Checkpoint:
    kind, changes = CASES[case]
    fields = tiny_fields(kind, **changes)
    return checkpoint_of(fields, {name: weight(name, shape) for name, shape in tiny_shapes(fields).items()})


def write(case: str, path: Path) -> str:
    """The case's file; its hash."""
    write_gguf(path, checkpoint(case), quantization="F32", tokenizer_metadata=TOKENIZER, name="tiny")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def llama_cpp_logits(path: Path, ids: list[int]) -> Any:
    """float32 [T, V]; keys and values kept in float32 as well."""
    from llama_cpp import Llama

    model = Llama(
        str(path), n_ctx=64, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1, type_k=0, type_v=0
    )
    model.eval(ids)
    logits = np.array(model.scores[: len(ids)])
    model.close()
    return logits


def main() -> None:
    import llama_cpp

    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(CASES):
            path = Path(folder) / f"{number}.gguf"
            digest = write(case, path)
            logits = llama_cpp_logits(path, IDS)[KEPT]
            cases[case] = {"sha256": digest, "logits": [[round(float(value), 5) for value in row] for row in logits]}
    reference = {"llama_cpp_python": llama_cpp.__version__, "cases": cases}
    (HERE / "llama_cpp.json").write_text(json.dumps(reference) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
