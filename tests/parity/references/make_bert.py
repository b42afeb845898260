"""Two tiny BERTs, an embedding model and a cross-encoder, and what transformers makes of texts with them.

    python tests/parity/references/make_bert.py

Writes bert/embedder, bert/cross_encoder (folders as sentence-transformers has them, a few kilobytes) and
bert/expected.json, with texts, ids, hidden states and scores. With a folder of all-MiniLM-L6-v2 as its argument also
minilm.json, from transformers and these weights.
"""

import json
import sys
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

HERE = Path(__file__).parent
FOLDER = HERE / "bert"
TEXTS = ["A cat sat on the mat.", "Dogs ran", "the café, and how!", "x", "seven small dogs " * 9]
QUERY, DOCUMENTS = "where is the cat?", ["the cat is on the mat", "seven dogs ran"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "dog", "dogs", "ran", "seven", "small", "where", "is", "##s", ".", ",", "?"]
REAL_TEXTS = ["A cat sat on the mat.", "Where did the cat sit?", "Die Katze saß auf der Matte — 東京!", "long " * 200]


def write_tokenizer(folder: Path) -> None:
    letters = [*ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase)]
    vocab = {token: id for id, token in enumerate(dict.fromkeys([*SPECIAL, *letters, *WORDS]))}
    pipeline = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    pipeline.normalizer = normalizers.BertNormalizer()
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = decoders.WordPiece()
    pipeline.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
    )
    pipeline.add_special_tokens(SPECIAL)
    # As the published files are: what they say of cutting and filling up is not for us.
    pipeline.enable_truncation(16)
    pipeline.enable_padding(length=16)
    pipeline.save(str(folder / "tokenizer.json"))
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **names}) + "\n"
    )


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def rounded(tensor: torch.Tensor) -> Any:
    return [[round(value, 7) for value in row] for row in tensor.tolist()]


def shake(model: torch.nn.Module) -> None:
    """Every parameter random: zeros and ones would hide mistakes."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.4 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter.mean().round() + noise if parameter.ndim == 1 else noise)


@torch.inference_mode()
def main() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    config = BertConfig(vocab_size=80, max_position_embeddings=64, **sizes)
    embedder, cross = FOLDER / "embedder", FOLDER / "cross_encoder"
    model = BertModel(config).eval()
    shake(model)
    model.save_pretrained(embedder)
    steps = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    write_json(
        embedder / "modules.json",
        [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (kind, path) in enumerate(steps.items())
        ],
    )
    write_json(embedder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    modes = {"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}
    write_json(
        embedder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 16, **{f"pooling_mode_{name}": value for name, value in modes.items()}},
    )
    write_tokenizer(embedder)
    config.num_labels = 1
    ranker = BertForSequenceClassification(config).eval()
    shake(ranker)
    ranker.save_pretrained(cross)
    write_tokenizer(cross)
    tokenizer = AutoTokenizer.from_pretrained(embedder)
    texts = [tokenizer(text) for text in TEXTS]
    pairs = [tokenizer(QUERY, document, return_tensors="pt", return_token_type_ids=True) for document in DOCUMENTS]
    write_json(
        FOLDER / "expected.json",
        {
            "texts": TEXTS,
            "ids": [text["input_ids"] for text in texts],
            "hidden": [rounded(model(torch.tensor([text["input_ids"]])).last_hidden_state[0]) for text in texts],
            "query": QUERY,
            "documents": DOCUMENTS,
            "scores": [float(ranker(**pair).logits.sigmoid()) for pair in pairs],
        },
    )


@torch.inference_mode()
def real(folder: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in REAL_TEXTS:
        read = tokenizer(text, return_tensors="pt", padding=False, truncation=True, max_length=256)
        vector = torch.nn.functional.normalize(model(**read).last_hidden_state[0].mean(0), dim=0)
        found.append({"text": text, "ids": read["input_ids"][0].tolist(), "vector": rounded(vector[None])[0]})
    write_json(HERE / "minilm.json", found)


if __name__ == "__main__":
    main()
    if sys.argv[1:]:
        real(Path(sys.argv[1]))
