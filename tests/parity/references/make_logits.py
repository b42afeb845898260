"""Write logits.json: what transformers computes for small Qwen3 models whose weights follow from a formula.

    python tests/parity/references/make_logits.py

Needs transformers. No weights are stored: `weight` gives every element from its place and its tensor's name.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {"num_key_value_heads": 4, "tie_word_embeddings": True, "rope_theta": 10_000.0},
    "untied, shared heads": {"num_key_value_heads": 2, "tie_word_embeddings": False, "rope_theta": 500_000.0},
}
COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
}
IDS = [[3, 14, 15, 9, 2, 6, 5, 35, 8, 63, 0, 31], [7, 7, 7, 1, 62, 40, 41, 42, 43, 44, 45, 46]]


def weight(name: str, shape: torch.Size) -> torch.Tensor:
    """Numbers between -0.3 and 0.3, or about one for a norm, the same on every machine and torch."""
    phase = zlib.crc32(name.encode()) % 1000
    places = torch.arange(shape.numel(), dtype=torch.float64)
    values = 0.3 * torch.sin(places * 12.9898 + phase).reshape(shape)
    return (1 + values if len(shape) == 1 else values).float()


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weight(name, parameter.shape))


def main() -> None:
    import transformers

    cases = {}
    for name, shape in SHAPES.items():
        theta = shape["rope_theta"]
        config = transformers.Qwen3Config(
            **COMMON, **shape, rope_parameters={"rope_type": "default", "rope_theta": theta}, attention_bias=False
        )
        model = transformers.Qwen3ForCausalLM(config).eval()
        fill(model)
        with torch.no_grad():
            logits = model(torch.tensor(IDS)).logits
        cases[name] = [[[round(float(value), 5) for value in row[::8]] for row in sequence] for sequence in logits]
    reference = {"transformers": transformers.__version__, "cases": cases}
    (HERE / "logits.json").write_text(json.dumps(reference) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
