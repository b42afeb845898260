"""BERT: an encoder, whose every token sees the whole text in both directions; for embeddings and for ranking.

    tokens_BT, types_BT ─ embeddings ─┬─ attention ─(+, norm)─ feed-forward ─(+, norm)─┬─ hidden_BTE
                                      └──────────── num_hidden_layers times ───────────┘       │
                              a cross-encoder's head: classifier(tanh(pooler(first token))) ◀──┘

Modules are named as Hugging Face's parameters are. Source: BERT (arXiv:1810.04805).
"""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.errors import DamagedError
from ownlm.model.bert_config import BertConfig
from ownlm.model.checkpoint import StoredTensor
from ownlm.model.feed_forward import ACTIVATIONS
from ownlm.model.load import Undrawn, is_finite


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)

    def forward(self, tokens_BT: Tensor, types_BT: Tensor) -> Tensor:
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTE = self.word_embeddings(tokens_BT) + self.token_type_embeddings(types_BT)
        return cast(Tensor, self.LayerNorm(x_BTE + self.position_embeddings(places_T)))


class SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads, size = config.num_attention_heads, config.hidden_size
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))

    def forward(self, x_BTE: Tensor, mask_B11T: Tensor | None) -> Tensor:
        q_BHTD, k_BHTD, v_BHTD = (
            cast(Tensor, layer(x_BTE)).view(*x_BTE.shape[:-1], self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, attn_mask=mask_B11T)
        return mixed_BHTD.transpose(1, 2).flatten(2)


class Output(nn.Module):
    """What comes back to the stream: a linear map, the sum with what went in, a norm."""

    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, inner_BTd: Tensor, x_BTE: Tensor) -> Tensor:
        return cast(Tensor, self.LayerNorm(self.dense(inner_BTd) + x_BTE))


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": Output(config, config.hidden_size)},
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = Output(config, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x_BTE: Tensor, mask_B11T: Tensor | None) -> Tensor:
        x_BTE = self.attention["output"](self.attention["self"](x_BTE, mask_B11T), x_BTE)
        return cast(Tensor, self.output(self.activation(self.intermediate["dense"](x_BTE)), x_BTE))


class Bert(nn.Module):
    """The encoder, with a head where the config has labels."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        if config.num_labels is not None:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, tokens_BT: Tensor, types_BT: Tensor, real_BT: Tensor) -> Tensor:
        """The last hidden states [B, T, E]. `real_BT` is False where a row is only filled up; nobody looks there."""
        mask_B11T = None if bool(real_BT.all()) else real_BT[:, None, None]
        x_BTE = self.embeddings(tokens_BT, types_BT)
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            x_BTE = layer(x_BTE, mask_B11T)
        return cast(Tensor, x_BTE)

    def labels(self, hidden_BTE: Tensor) -> Tensor:
        """The head's outputs [B, labels], of each text's first token."""
        return cast(Tensor, self.classifier(torch.tanh(self.pooler["dense"](hidden_BTE[:, 0]))))

    @property
    def device(self) -> torch.device:
        return self.embeddings.word_embeddings.weight.device


def build_bert(config: BertConfig, tensors: Mapping[str, StoredTensor], *, device: str | torch.device = "cpu") -> Bert:
    """The encoder of a file's tensors, in float32 and evaluation mode. Every parameter of it is set.

    What a file has besides (the heads it was trained with) is not read.
    """
    bert, found = bare_bert(config, tensors)
    loaded: dict[str, Tensor] = {}
    for name, stored in found.items():
        # In memory of its own: a file's mapping ends.
        loaded[name] = stored.read().to(device=device, dtype=torch.float32, copy=True)
        if not is_finite(loaded[name]):
            raise DamagedError(f"{name} holds numbers that are not finite; restore the model's files")
    bert.load_state_dict(loaded, assign=True)
    return bert.eval().requires_grad_(False)


def bare_bert(config: BertConfig, tensors: Mapping[str, StoredTensor]) -> tuple[Bert, Mapping[str, StoredTensor]]:
    """The encoder without memory for its numbers, and the stored tensor of each parameter, which fits it."""
    if config.num_hidden_layers > len(tensors):
        raise DamagedError(f"the config names {config.num_hidden_layers} layers, and there are {len(tensors)} tensors")
    found = {_plain_name(name): stored for name, stored in tensors.items()}
    with torch.device("meta"), Undrawn():
        bert = Bert(config)
    for name, parameter in bert.named_parameters():
        if name not in found:
            raise DamagedError(f"the tensor {name} is missing; restore the model's files")
        if found[name].shape != tuple(parameter.shape):
            raise DamagedError(
                f"the tensor {name} has shape {list(found[name].shape)}, and config.json asks for "
                f"{list(parameter.shape)}; restore the model's files"
            )
    return bert, {name: found[name] for name, _ in bert.named_parameters()}


def _plain_name(name: str) -> str:
    """As a bare BertModel has it: without the prefix of a model with a head, and the norms' newer names."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
