"""A whole language model in one file: text, characters, attention, backpropagation, sampling.

    python examples/llm_in_one_file.py              # learns Python's own manual, about a minute on 2 cores
    python examples/llm_in_one_file.py novel.txt    # or learns your text

A language model answers one question, again and again: given the text so far, how likely is each
character to come next? Training shows it real text and makes what really came next more likely;
sampling rolls dice by its answer, appends the character, and asks again.

Shapes in names: B texts in a batch, T characters in each, E width, H heads, K key/value heads,
D width of a head, V characters in the alphabet.
"""

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, silu


@dataclass(frozen=True, kw_only=True)
class Config:
    """The names are those of a Hugging Face config.json; the shape is a small Qwen3."""

    vocab_size: int
    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    max_position_embeddings: int = 64
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True


# ---- 1. The model: a column of numbers for each character, refined layer by layer
class RMSNorm(nn.Module):
    """Brings every column to the same length, so that no layer has to follow another's scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def rotate_by_position(x_BHTD: Tensor, theta: float) -> Tensor:
    """RoPE (arXiv:2104.09864): turn pairs of numbers by angles that grow with the position."""
    # The product of two vectors then depends on how far apart they stand: order, without counting.
    T, D = x_BHTD.shape[-2:]
    speed = theta ** (-torch.arange(0, D, 2) / D)  # from a radian a character down to almost none
    angle_TD = torch.outer(torch.arange(T), speed).repeat(1, 2)
    first, second = x_BHTD.chunk(2, dim=-1)  # halves, not neighbours, are the pairs, as in Qwen's weights
    return x_BHTD * angle_TD.cos() + torch.cat((-second, first), dim=-1) * angle_TD.sin()


class Attention(nn.Module):
    """Each character looks back, decides which earlier ones matter, and fetches from them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, E, D = config, config.hidden_size, config.head_dim
        H, K = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(E, H * D, bias=False)  # what am I looking for?
        self.k_proj = nn.Linear(E, K * D, bias=False)  # what do I offer?
        self.v_proj = nn.Linear(E, K * D, bias=False)  # what do I hand over to those who choose me?
        self.o_proj = nn.Linear(H * D, E, bias=False)
        self.q_norm, self.k_norm = (RMSNorm(D, config.rms_norm_eps) for _ in range(2))

    def forward(self, x_BTE: Tensor) -> Tensor:
        B, T, _ = x_BTE.shape
        D, theta = self.config.head_dim, self.config.rope_theta
        roles = self.q_proj, self.k_proj, self.v_proj
        q_BHTD, k_BKTD, v_BKTD = (role(x_BTE).view(B, T, -1, D).transpose(1, 2) for role in roles)
        q_BHTD = rotate_by_position(self.q_norm(q_BHTD), theta)
        k_BKTD = rotate_by_position(self.k_norm(k_BKTD), theta)
        # Several query heads share one key/value head: less to remember when generating.
        shared_by = q_BHTD.shape[1] // k_BKTD.shape[1]
        k_BHTD, v_BHTD = (part.repeat_interleave(shared_by, dim=1) for part in (k_BKTD, v_BKTD))
        score_BHTT = q_BHTD @ k_BHTD.mT / math.sqrt(D)
        future_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
        # Without this mask the model would copy the character that it is asked to predict.
        weight_BHTT = score_BHTT.masked_fill(future_TT, -math.inf).softmax(dim=-1)
        return self.o_proj((weight_BHTT @ v_BHTD).transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202): thinks about each character alone; the gate says what to let through."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E, wide = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = nn.Linear(E, wide, bias=False), nn.Linear(E, wide, bias=False)
        self.down_proj = nn.Linear(wide, E, bias=False)

    def forward(self, x_BTE: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x_BTE)) * self.up_proj(x_BTE))


class Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(width, eps), RMSNorm(width, eps)
        self.self_attn, self.mlp = Attention(config), FeedForward(config)

    def forward(self, x_BTE: Tensor) -> Tensor:
        # Layers add to what is there and never replace it, so the gradient has a straight way back.
        x_BTE = x_BTE + self.self_attn(self.input_layernorm(x_BTE))
        return x_BTE + self.mlp(self.post_attention_layernorm(x_BTE))


class LanguageModel(nn.Module):
    """Character ids in; out, for every position, a score for each character that could come next."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.model = config, nn.ModuleDict()  # its keys give Hugging Face's parameter names
        self.model["embed_tokens"] = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model["layers"] = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.model["norm"] = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:  # matrices start as small noise, norms stay at one
                nn.init.normal_(parameter, std=0.02)
        if config.tie_word_embeddings:  # the table that reads characters also writes them
            self.lm_head.weight = self.model["embed_tokens"].weight

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTE = self.model["embed_tokens"](ids_BT)
        for layer in self.model["layers"]:
            x_BTE = layer(x_BTE)
        return self.lm_head(self.model["norm"](x_BTE))


# ---- 2. Training: show it text, and move every weight a little towards what really came next
def train(text: str, steps: int = 600, config: Config | None = None) -> tuple[LanguageModel, str, list]:
    """The trained model, its alphabet (the id of a character is its place in it), and the loss by step."""
    torch.manual_seed(0)
    alphabet = "".join(sorted(set(text)))
    place = {character: index for index, character in enumerate(alphabet)}
    ids = torch.tensor([place[character] for character in text])
    learn, held_out = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]  # the end is never learned from
    model = LanguageModel(config or Config(vocab_size=len(alphabet)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.1)
    losses, start = [], time.time()
    for step in range(steps):
        # Warm up, hold, and cool down to zero over the last third: small steps settle best.
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 20, 3 * (steps - step) / steps)
        loss = next_character_loss(model, learn)
        optimizer.zero_grad()
        loss.backward()  # backpropagation: how would the loss change with each weight?
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 99:
            with torch.no_grad():
                unseen = next_character_loss(model, held_out, batch=128).item()
            bits = " and ".join(f"{nats / math.log(2):.2f}" for nats in (losses[-1], unseen))
            print(f"\nstep {step + 1}, {time.time() - start:.0f} s: bits a character here and unseen {bits}")
            print(sample(model, alphabet, "The ", 120))
    return model, alphabet, losses


def next_character_loss(model: LanguageModel, ids: Tensor, batch: int = 16) -> Tensor:
    """How surprised the model is, on average, by the next character of random stretches, in nats."""
    T = min(model.config.max_position_embeddings, len(ids) - 1)
    starts = torch.randint(len(ids) - T, (batch,))
    stretch_BT = torch.stack([ids[start : start + T + 1] for start in starts])
    logits_BTV = model(stretch_BT[:, :-1])
    return cross_entropy(logits_BTV.flatten(0, 1), stretch_BT[:, 1:].flatten())  # the target: one further


# ---- 3. Sampling: ask for the next character, roll the dice, append, ask again
@torch.no_grad()
def sample(model: LanguageModel, alphabet: str, prompt: str, length: int, temperature: float = 0.7) -> str:
    """`prompt` and `length` more characters. A low temperature trusts the model's first choice more."""
    ids = [alphabet.index(character) for character in prompt if character in alphabet] or [0]
    for _ in range(length):
        # Reading everything again for each character is wasteful; ownlm's engine keeps keys and values.
        logits_V = model(torch.tensor([ids[-model.config.max_position_embeddings :]]))[0, -1]
        ids.append(int(torch.multinomial((logits_V / temperature).softmax(dim=-1), 1)))
    return "".join(alphabet[index] for index in ids)


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8") if len(sys.argv) > 1 else "\n".join(topics.values())
    print(f"{len(text):,} characters, {len(set(text))} different ones")
    model, alphabet, _ = train(text)
    print(f"\nThe finished model, {sum(p.numel() for p in model.parameters()):,} weights, goes on:\n")
    print(sample(model, alphabet, "The ", 600))
