"""A real Gemma 3, from its GGUF file to scores, within its window and past it: transformers' own of the same file.

They stand in references/gemma3_270m.json, made by make_gemma3_270m.py; test_gguf.py asks transformers itself.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from ownlm.artefact import file_sha256
from ownlm.opened import load

REFERENCE = json.loads((Path(__file__).parent / "references" / "gemma3_270m.json").read_text(encoding="utf-8"))


def test_scores_are_those_of_transformers() -> None:
    path = Path(os.environ.get("OWNLM_TEST_GGUF", "")) / "gemma-3-270m.Q4_K_M.gguf"
    if not path.is_file():
        pytest.skip("announced: OWNLM_TEST_GGUF names no folder with Gemma 3's GGUF file")
    assert file_sha256(path) == REFERENCE["sha256"]
    model = load(path)
    logits_TV = model.logits(REFERENCE["ids"])[REFERENCE["places"]]
    top = logits_TV.topk(len(REFERENCE["likeliest"][0]))
    assert top.indices[:, 0].tolist() == [ids[0] for ids in REFERENCE["likeliest"]]
    theirs = torch.tensor(REFERENCE["logits"])
    assert float((logits_TV.gather(1, torch.tensor(REFERENCE["likeliest"])) - theirs).abs().max()) < 1e-3
