"""The BERT family against transformers: what it recorded of two tiny models and of all-MiniLM-L6-v2, and (peers) live.

OWNLM_TEST_EMBEDDER names a folder with the latter's files.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.opened.embedder import Embedder, load_embedder

REFERENCES = Path(__file__).parent / "references"
EXPECTED = json.loads((REFERENCES / "bert" / "expected.json").read_text(encoding="utf-8"))


def hidden(embedder: Embedder, texts: list[str]) -> list[torch.Tensor]:
    framed = [embedder.framed(text) for text in texts]
    with torch.inference_mode():
        hidden_BTE, real_BT = embedder.hidden(framed)
    return [row_TE[real_T] for row_TE, real_T in zip(hidden_BTE, real_BT, strict=True)]


def test_recorded_states_and_scores() -> None:
    embedder = load_embedder(REFERENCES / "bert" / "embedder")
    assert [embedder.framed(text).ids for text in EXPECTED["texts"]] == EXPECTED["ids"]
    vectors_NE = embedder.embed(EXPECTED["texts"])
    for row, (found_TE, expected) in enumerate(
        zip(hidden(embedder, EXPECTED["texts"]), EXPECTED["hidden"], strict=True)
    ):
        expected_TE = torch.tensor(expected)
        assert float((found_TE - expected_TE).abs().max()) < 1e-5
        mean_E = torch.nn.functional.normalize(expected_TE.mean(0), dim=0)
        assert float((vectors_NE[row] - mean_E).abs().max()) < 1e-5
    ranker = load_embedder(REFERENCES / "bert" / "cross_encoder")
    assert ranker.rank(EXPECTED["query"], EXPECTED["documents"]) == pytest.approx(EXPECTED["scores"], abs=1e-5)


def test_a_real_model_makes_the_recorded_embeddings() -> None:
    folder = Path(os.environ.get("OWNLM_TEST_EMBEDDER", "none"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip("announced: OWNLM_TEST_EMBEDDER names no folder with all-MiniLM-L6-v2")
    embedder = load_embedder(folder)
    expected: list[Any] = json.loads((REFERENCES / "minilm.json").read_text(encoding="utf-8"))
    assert [embedder.framed(one["text"]).ids for one in expected] == [one["ids"] for one in expected]
    vectors_NE = embedder.embed([one["text"] for one in expected])
    assert float((vectors_NE - torch.tensor([one["vector"] for one in expected])).abs().max()) < 1e-5
    # They mean something: the question is nearest to what answers it.
    found = embedder.rank("Where did the cat sit?", ["Shares fell on Monday.", "A cat sat on the mat."])
    assert found[1] > found[0] + 0.3


@pytest.mark.peers
@pytest.mark.parametrize("act", ["gelu", "relu", "gelu_new"])
def test_transformers_live(act: str, tmp_path: Path) -> None:
    import shutil

    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=80,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=40,
        hidden_act=act,
        max_position_embeddings=32,
        type_vocab_size=2,
    )
    torch.manual_seed(3)
    model = BertModel(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REFERENCES / "bert" / "embedder" / name, tmp_path / name)
    embedder = load_embedder(tmp_path)
    assert embedder.context == 32 and embedder.pooling == "mean"
    for found_TE, text in zip(hidden(embedder, EXPECTED["texts"][:4]), EXPECTED["texts"], strict=False):
        with torch.inference_mode():
            theirs_TE = model(torch.tensor([embedder.framed(text).ids])).last_hidden_state[0]
        assert float((found_TE - theirs_TE).abs().max()) < 1e-5
