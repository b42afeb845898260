"""(peers) Beam search against transformers' generate(num_beams=4), token for token, on a tiny random llama."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.engine import Engine
from ownlm.engine.beam import beam_search
from ownlm.model.load import read_decoder
from tiny_models import tiny_tokenizer

pytestmark = pytest.mark.peers

FOLDER = Path(__file__).parent / "references" / "families" / "llama"
PROMPTS = [[3], [14, 15, 9, 2, 6], [7, 7, 7, 1, 22, 40, 41, 42] * 3]
ENDS, PAD = [5, 17], 47


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.0, 2.5])
@pytest.mark.parametrize("ends", [ENDS, ENDS[:1]])
def test_the_beams_of_transformers(early_stopping: Any, length_penalty: float, ends: list[int]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    ours = read_decoder(FOLDER, dtype=torch.float32).eval()
    # Flatter, so that beams compete; and with ends that come.
    with torch.no_grad():
        for head in (theirs.lm_head.weight, ours.lm_head.weight):
            head.mul_(0.3)
            head[ends] *= 2.5
    stopped = 0
    for prompt in PROMPTS:
        out = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            num_beams=4,
            num_return_sequences=4,
            do_sample=False,
            max_new_tokens=12,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            eos_token_id=ends,
            pad_token_id=PAD,
            return_dict_in_generate=True,
            output_scores=True,
        )
        engine = Engine(ours, tiny_tokenizer(), ends)
        engine.runner.never = torch.tensor([], dtype=torch.long)
        found = beam_search(
            engine, prompt, beams=4, max_tokens=12, length_penalty=length_penalty, early_stopping=early_stopping
        )
        assert [answer.score for answer in found] == pytest.approx(out.sequences_scores.tolist(), abs=1e-4)
        for answer, row in zip(found, out.sequences.tolist(), strict=True):
            text = row[len(prompt) :]
            assert text == answer.token_ids + [PAD] * (len(text) - len(answer.token_ids))
            stopped += answer.finish_reason == "stop"
    assert stopped > 0
