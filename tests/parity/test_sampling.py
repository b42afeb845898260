"""(peers) The cuts and the repetition penalty against transformers' own, on vocabularies without equals."""

from typing import Any

import pytest
import torch

from ownlm.engine import Sampling
from ownlm.engine.rare_samplers import typical
from ownlm.engine.sampler import Candidates, Sampler, nucleus

pytestmark = pytest.mark.peers


def chances(logits_V: torch.Tensor, setting: str, value: float) -> torch.Tensor:
    ours = Candidates(logits_V, 1.0, int(value) if setting == "top_k" else 0)
    if setting == "top_p":
        ours.keep(nucleus(ours.chance_C, value))
    if setting == "typical_p":
        ours.keep(typical(ours.chance_C, value))
    if setting == "min_p":
        ours.keep((ours.chance_C >= value * ours.chance_C.max()).nonzero()[0])
    chance_V = torch.zeros(len(logits_V))
    chance_V[slice(None) if ours.ids_C is None else torch.from_numpy(ours.ids_C)] = torch.from_numpy(ours.chance_C)
    return chance_V


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("setting", "warper", "value"),
    [
        ("top_k", "TopKLogitsWarper", 7),
        ("top_k", "TopKLogitsWarper", 900),
        ("top_p", "TopPLogitsWarper", 0.5),
        ("top_p", "TopPLogitsWarper", 0.97),
        ("min_p", "MinPLogitsWarper", 0.05),
        ("typical_p", "TypicalLogitsWarper", 0.3),
        ("typical_p", "TypicalLogitsWarper", 0.9),
    ],
)
def test_the_cuts_of_transformers(setting: str, warper: str, value: float, seed: int) -> None:
    process: Any = pytest.importorskip("transformers.generation.logits_process")
    logits_V = torch.randn(1000, generator=torch.Generator().manual_seed(seed)) * 3
    theirs = getattr(process, warper)(value)(torch.zeros(1, 1, dtype=torch.long), logits_V[None])[0].softmax(0)
    ours = chances(logits_V, setting, value)
    assert torch.equal(ours > 0, theirs > 0)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_the_repetition_penalty_of_transformers(penalty: float) -> None:
    process: Any = pytest.importorskip("transformers.generation.logits_process")
    logits_V = torch.randn(50, generator=torch.Generator().manual_seed(0))
    prompt = [3, 7, 7, 49]
    theirs = process.RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([prompt]), logits_V[None].clone())[0]
    sampler = Sampler(Sampling(repetition_penalty=penalty), prompt)
    torch.testing.assert_close(sampler._changed(logits_V), theirs)
