"""Write families/NAME/: a tiny model of each family as transformers saves it, and the logits that it computes.

    python tests/parity/references/make_families.py

Needs transformers. Weights are drawn from a seed, wide enough that every part of a model shows in its logits, and
saved in bfloat16, which halves the files; the logits are those of these weights in float32.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent / "families"
IDS = [3, 14, 15, 9, 2, 6, 5, 35, 8, 23, 0, 31, 7, 7, 7, 1, 22, 40, 41, 42]

SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 24,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 48}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 6, "num_hidden_layers": 3}
PHI3 = {
    "max_position_embeddings": 64,
    "original_max_position_embeddings": 12,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0, 1.2],
        "long_factor": [1.5, 3.0],
        "partial_rotary_factor": 0.75,
    },
    "pad_token_id": 0,
}
GRANITE = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.25,
    "logits_scaling": 2.0,
    "tie_word_embeddings": True,
}
MOE = {
    "head_dim": 8,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "norm_topk_prob": True,
    "mlp_only_layers": [0],
    "num_hidden_layers": 3,
}
# Family: (the class of its configuration in transformers, that class's keywords)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", GPT2),
    "llama": ("LlamaConfig", {**SIZES, "rope_parameters": LLAMA3}),
    "mistral": ("MistralConfig", {**SIZES, "sliding_window": 5}),
    "qwen2": ("Qwen2Config", {**SIZES, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**SIZES, "head_dim": 16}),
    "gemma2": ("Gemma2Config", {**SIZES, **GEMMA}),
    "gemma3_text": ("Gemma3TextConfig", {**SIZES, **GEMMA, "sliding_window_pattern": 3}),
    "olmo2": ("Olmo2Config", SIZES),
    "phi3": ("Phi3Config", {**SIZES, **PHI3}),
    "granite": ("GraniteConfig", {**SIZES, **GRANITE}),
    "gpt_neox": ("GPTNeoXConfig", {name: SIZES[name] for name in SIZES if name != "num_key_value_heads"}),
    "qwen3_moe": ("Qwen3MoeConfig", {**SIZES, **MOE}),
}


def make_model(kind: str, keywords: dict[str, Any]) -> Any:
    import transformers

    config = getattr(transformers, kind)(**keywords)
    config._attn_implementation = "eager"
    return randomised(transformers.AutoModelForCausalLM.from_config(config))


def randomised(model: Any, *, seed: int = 0) -> Any:
    """Every parameter random: zeros and ones would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    offset = "gemma" in model.config.model_type
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim > 1 else 0.2)
            gain = parameter.ndim == 1 and name.endswith("weight") and not offset
            parameter.copy_(1 + noise if gain else noise)
    return model.eval()


def main() -> None:
    import transformers

    for name, (kind, keywords) in CASES.items():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        make_model(kind, keywords).to(torch.bfloat16).save_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            logits = model(torch.tensor([IDS])).logits[0]
        rows = [[round(float(value), 5) for value in row[::6]] for row in logits]
        reference = {"transformers": transformers.__version__, "logits": rows}
        (folder / "expected.json").write_text(json.dumps(reference) + "\n", encoding="utf-8")
        (folder / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
