"""A real model, from its GGUF file to text, against transformers' and llama.cpp's own reading of the same file.

What llama.cpp says stands in references/smollm2.json (made by make_smollm2.py), what transformers says in the shared
data. The starter must have been fetched: `ownlm starter get smollm2 --yes`, as `make test-peers` does.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.model import quantized
from ownlm.opened import Model, convert, load
from ownlm.opened.convert import SAMPLE
from starter_model import fetched_smollm2

REFERENCE = json.loads((Path(__file__).parent / "references" / "smollm2.json").read_text(encoding="utf-8"))
# Two tokens whose scores differ by less are as good as equal: which comes first is rounding's choice.
NEAR_TIE = 0.05

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def smollm2() -> Model:
    return fetched_smollm2()


def test_prompts_are_the_same_ids(smollm2: Model) -> None:
    """llama.cpp and transformers were given these."""
    question = [{"role": "user", "content": "What is the capital of France?"}]
    assert smollm2.chat_prompt(question) == REFERENCE["prompts"][0]


def test_llama_cpp_says_the_same_from_the_file_that_we_write(
    smollm2: Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = tmp_path_factory.mktemp("smollm2") / "f16.gguf"
    convert("smollm2", written, quantization="F16")
    model = load(written, dtype="float32")
    written.unlink()
    for prompt, theirs in zip(REFERENCE["prompts"], REFERENCE["greedy_f16"], strict=True):
        (answer,) = model.complete([prompt], temperature=0, max_tokens=len(theirs), ignore_eos=True)
        differs = next(
            (at for at, pair in enumerate(zip(answer.token_ids, theirs, strict=True)) if len({*pair}) > 1), None
        )
        if differs is not None:
            scores_V = model.logits([*prompt, *theirs[:differs]])[-1]
            assert float(scores_V.max() - scores_V[theirs[differs]]) < NEAR_TIE


def test_llama_cpp_agrees_on_the_fetched_file(smollm2: Model) -> None:
    """Its eight-bit activations move scores by 0.2: it may prefer another token only where two are close."""
    logits_TV = smollm2.logits(REFERENCE["text_ids"])
    theirs_T = torch.tensor(REFERENCE["likeliest_as_fetched"])
    agree_T = logits_TV.argmax(-1) == theirs_T
    assert float(agree_T.double().mean()) >= 0.95
    gap_T = logits_TV.max(-1).values - logits_TV.gather(1, theirs_T.unsqueeze(1)).squeeze(1)
    assert float(gap_T.max()) < 0.5


def test_transformers_computes_the_same_scores(smollm2: Model, shared_data: Path) -> None:
    path = shared_data / "model-reference-logits" / "smollm2-135m-instruct-q4_1.json"
    cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert cases
    for case in cases:
        assert smollm2.tokenizer.encode(case["prompt"]) == case["ids"]
        logits_TV = smollm2.logits(case["ids"])
        theirs = torch.tensor(case["last_top10_logits"])
        assert float((logits_TV[-1, case["last_top10_ids"]] - theirs).abs().max()) < 1e-3
        logprobs_T = logits_TV[:-1].log_softmax(-1).gather(1, torch.tensor(case["ids"][1:]).unsqueeze(1)).squeeze(1)
        assert float((logprobs_T - torch.tensor(case["logprobs_of_prompt_tokens"])).abs().max()) < 1e-3
        (answer,) = smollm2.complete([case["ids"]], temperature=0, max_tokens=24, ignore_eos=True)
        assert answer.token_ids == case["greedy24"]


def test_blocks_and_bfloat16_say_what_float32_says(smollm2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher-forced; and the packed kernels compute, not the dense product of many rows."""
    monkeypatch.setattr(quantized, "FEW_ROWS", dict.fromkeys(quantized.FEW_ROWS, 1_000))
    ids = smollm2.tokenizer.prompt_ids(SAMPLE)[:192]
    exact_TV = smollm2.logits(ids)
    for model in (load("smollm2", quantize="blocks", device="cpu"), load("smollm2", dtype="bfloat16")):
        got_TV = model.logits(ids)
        agreement = float((got_TV.argmax(-1) == exact_TV.argmax(-1)).double().mean())
        assert agreement >= 0.9 and 0 < float((got_TV - exact_TV).square().mean().sqrt()) <= 0.25, model.arithmetic
