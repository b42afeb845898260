"""Every family in training and generation: packed documents stay apart, all parameters learn, no batch shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ownlm.engine import Engine, Request, Sampling, complete
from ownlm.engine.perplexity import text_loss
from ownlm.engine.score import log_likelihoods
from ownlm.errors import OwnlmError
from ownlm.model import Decoder, initialise
from ownlm.model.families import FAMILIES
from ownlm.model.load import read_decoder
from ownlm.train.batch import IGNORE, Batch
from ownlm.train.optim import OptimizerConfig, partition
from ownlm.train.pretrain import token_sizes
from ownlm.train.step import Learner
from tiny_models import random_ids, tiny_tokenizer, token_loss_of

REFERENCES = Path(__file__).parents[1] / "parity" / "references" / "families"
NAMES = sorted(set(FAMILIES) - {"gemma3"})


def opened(name: str) -> Decoder:
    return read_decoder(REFERENCES / name, dtype=torch.float64)


def packed(lengths: list[int]) -> tuple[Batch, list[torch.Tensor]]:
    documents = [torch.tensor([random_ids(length, seed=length, vocab=48)]) for length in lengths]
    targets = torch.cat([torch.cat((ids[:, 1:], torch.full((1, 1), IGNORE)), 1) for ids in documents], 1)
    batch = Batch(
        tokens_BT=torch.cat(documents, 1),
        positions_BT=torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
        documents_BT=torch.cat([torch.full((length,), n) for n, length in enumerate(lengths)]).unsqueeze(0),
        targets_BT=targets,
    )
    return batch, documents


@pytest.mark.parametrize("name", NAMES)
def test_packed_documents_are_read_as_if_alone(name: str) -> None:
    model = opened(name)
    # Phi-3 turns by other frequencies past its 12 tokens: each document by its own length.
    batch, documents = packed([9, 3, 20])
    together = model(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    alone = torch.cat([model(ids) for ids in documents], 1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_all_parameters_learn(name: str) -> None:
    model = read_decoder(REFERENCES / name).train()
    initialise(model, 0)
    batch, _ = packed([30, 34])
    assert sum(map(len, partition(model))) == len(list(model.parameters()))
    learner = Learner.of(model, OptimizerConfig(eps=1e-8))
    before = {parameter: value.detach().clone() for parameter, value in model.named_parameters()}
    losses = []
    for _ in range(30):
        result = learner.step(batch)
        assert result.updated
        losses.append(result.loss)
    assert losses[-1] < 0.8 * losses[0]
    still = [parameter for parameter, value in model.named_parameters() if torch.equal(value, before[parameter])]
    # Keys' biases add the same to every score of a query; and of experts some may never be asked.
    assert [p for p in still if "k_proj.bias" not in p and ".experts." not in p] == []


@pytest.mark.parametrize("name", NAMES)
def test_initialised_it_begins_without_knowing_anything(name: str) -> None:
    model = initialise(read_decoder(REFERENCES / name), 0)
    batch, _ = packed([40])
    loss = token_loss_of(model, batch)
    nats = float(loss.total.detach()) / int(loss.count)
    assert nats == pytest.approx(torch.tensor(48.0).log().item(), abs=0.05 * model.config.embedding_multiplier)


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_and_scores_alike_in_any_batch(name: str) -> None:
    tokenizer = tiny_tokenizer()
    config = read_decoder(REFERENCES / name).config
    model = Decoder(replace(config, vocab_size=tokenizer.padded_vocab_size)).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.3 * noise)
    prompts = [random_ids(length, seed=length) for length in (2, 19, 7)]
    requests = [Request(prompt=ids, sampling=Sampling(max_tokens=8, temperature=0)) for ids in prompts]
    engine = Engine(model, tokenizer, [])
    together = [done.token_ids for done in complete(engine, requests)]
    assert together == [complete(engine, [request])[0].token_ids for request in requests]
    assert all(len(ids) == 8 for ids in together)

    pairs = [(ids[:-1], ids[-1:]) for ids in prompts]
    with torch.inference_mode():
        alone = [float(model(torch.tensor([a])).log_softmax(-1)[0, -1, b[0]]) for a, b in pairs]
    assert log_likelihoods(model, pairs) == pytest.approx(alone, abs=1e-4)
    document = np.array(random_ids(40, seed=3))
    loss = text_loss(model, [document], token_sizes(tokenizer), context=16, batch=3)
    assert loss.tokens == 39 and np.isfinite(loss.nats)


def test_learned_positions_end_where_their_table_ends() -> None:
    model = read_decoder(REFERENCES / "gpt2")
    most = model.config.max_position_embeddings
    assert model(torch.zeros(1, most, dtype=torch.long)).shape[1] == most
    with pytest.raises(OwnlmError, match=f"has learned {most} positions"):
        model(torch.zeros(1, most + 1, dtype=torch.long))
