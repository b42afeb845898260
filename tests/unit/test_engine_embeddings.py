"""A decoder's embeddings by the engine: the mean of its hidden states, however the prompt was cut and put back."""

import asyncio

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.engine import Engine, EngineConfig, Request, Sampling, embeddings
from ownlm.engine.background import EngineThread
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.lora import LoraAdapter, LoraConfig, adapted
from tiny_models import random_decoder, random_ids, tiny_tokenizer

LENGTHS = (1, 5, 40, 128, 17, 40, 16)
PROMPTS = [random_ids(length, seed=length) for length in LENGTHS]


@pytest.fixture(scope="module")
def model() -> Decoder:
    return random_decoder(seed=1, max_position_embeddings=128).eval().requires_grad_(False)


def make_engine(model: Decoder, **config: int) -> Engine:
    return Engine(model, tiny_tokenizer(), [], EngineConfig(**config))


def plain(model: Decoder, prompt: list[int]) -> Tensor:
    return F.normalize(model.hidden(torch.tensor([prompt]))[0].mean(0), dim=0)


def test_it_is_the_mean_of_all_hidden_states(model: Decoder) -> None:
    engine = make_engine(model, max_sequences=3, step_tokens=7, cache_tokens=128)
    # Twice the same: a beginning that is in the cache has to be read all the same.
    found = embeddings(engine, [*PROMPTS, *PROMPTS])
    expected = torch.stack([plain(model, prompt) for prompt in PROMPTS])
    assert float((found - torch.cat([expected, expected])).abs().max()) < 1e-6
    assert engine.idle and engine.scheduler.blocks.free == engine.scheduler.blocks.count


def test_who_is_put_back_is_read_again(model: Decoder) -> None:
    engine = make_engine(model, max_sequences=2, step_tokens=4, cache_tokens=64)
    # The text in front of it grows into the blocks that it holds.
    text = engine.add(Request(prompt=random_ids(12, seed=99), sampling=Sampling(max_tokens=9, ignore_eos=True)))
    ticket = engine.add(Request(prompt=PROMPTS[2], embed=True))
    while not (ticket.finished and text.finished):
        engine.step()
    assert engine.scheduler.preemptions and len(text.pieces) == 9 and not ticket.pieces
    assert ticket.embedding_E is not None
    assert float((ticket.embedding_E - plain(model, PROMPTS[2])).abs().max()) < 1e-6


def test_an_adapter_is_for_its_own_request(model: Decoder) -> None:
    adapter = LoraAdapter.new(model, LoraConfig(rank=2, alpha=4), seed=1).requires_grad_(False)
    for pair in adapter.each():
        pair.b_Or.normal_(generator=torch.Generator().manual_seed(2))
    engine = make_engine(model)
    tickets = [engine.add(Request(prompt=PROMPTS[2], embed=True, adapter=one)) for one in (adapter, None)]
    while not all(ticket.finished for ticket in tickets):
        engine.step()
    without = plain(model, PROMPTS[2])
    with adapted(model, [(slice(None), adapter)]):
        beside = plain(model, PROMPTS[2])
    assert float((beside - without).abs().max()) > 1e-3
    for ticket, expected in zip(tickets, (beside, without), strict=True):
        assert ticket.embedding_E is not None and float((ticket.embedding_E - expected).abs().max()) < 1e-5


def test_the_thread_answers_it_beside_texts(model: Decoder) -> None:
    async def both(background: EngineThread) -> tuple[int, Tensor | None]:
        text = background.submit(Request(prompt=PROMPTS[1], sampling=Sampling(max_tokens=20, ignore_eos=True)))
        vector = background.submit(Request(prompt=PROMPTS[3], embed=True))
        assert [piece async for piece in vector] == [] and vector.ticket is not None
        return len([piece async for piece in text]), vector.ticket.embedding_E

    with EngineThread(make_engine(model, max_sequences=4, step_tokens=16)) as background:
        drawn, vector = asyncio.run(both(background))
    assert drawn == 20 and vector is not None and float((vector - plain(model, PROMPTS[3])).abs().max()) < 1e-6


def test_what_cannot_be_embedded_ends_alone(model: Decoder) -> None:
    broken = random_decoder(seed=3, max_position_embeddings=128).eval().requires_grad_(False)
    broken.model.embed_tokens.weight[PROMPTS[0][0]] = torch.nan
    engine = make_engine(broken)
    sound = next(prompt for prompt in PROMPTS if PROMPTS[0][0] not in prompt)
    tickets = [engine.add(Request(prompt=prompt, embed=True)) for prompt in (PROMPTS[0], sound)]
    while not all(ticket.finished for ticket in tickets):
        engine.step()
    assert "not finite" in str(tickets[0].error) and tickets[1].embedding_E is not None and engine.idle
    with pytest.raises(OwnlmError, match="has 129 tokens"):
        engine.add(Request(prompt=random_ids(129), embed=True))
    with pytest.raises(OwnlmError, match="empty"):
        engine.add(Request(prompt=[], embed=True))
