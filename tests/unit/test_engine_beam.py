"""Beam search against every text there is, on a vocabulary of three."""

from itertools import product

import pytest
import torch

from ownlm.engine import Engine, Request, Sampling, complete
from ownlm.engine.beam import beam_search
from ownlm.errors import OwnlmError
from tiny_models import random_decoder, random_ids, tiny_tokenizer

MODEL = random_decoder(seed=3, scale=0.15, vocab_size=3).eval()
END, MOST = 2, 3


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.5, 2.0])
@pytest.mark.parametrize("prompt", [[0], [1, 0, 1], [0, 1] * 12])
def test_beams_that_hold_all_texts_find_them_all_in_order(prompt: list[int], length_penalty: float) -> None:
    scores: dict[tuple[int, ...], float] = {}
    for length in range(1, MOST + 1):
        for text in product(range(3), repeat=length):
            if END not in text[:-1] and (text[-1] == END or length == MOST):
                with torch.inference_mode():
                    logprobs_TV = MODEL(torch.tensor([[*prompt, *text]]))[0].double().log_softmax(-1)
                total = sum(float(logprobs_TV[len(prompt) + place - 1, id]) for place, id in enumerate(text))
                scores[text] = total / length**length_penalty
    engine = Engine(MODEL, tiny_tokenizer(), [END])
    engine.runner.never = torch.tensor([], dtype=torch.long)
    found = beam_search(engine, prompt, beams=19, max_tokens=MOST, length_penalty=length_penalty)
    assert [tuple(answer.token_ids) for answer in found] == sorted(scores, key=lambda text: -scores[text])
    for answer in found:
        assert answer.score == pytest.approx(scores[tuple(answer.token_ids)], abs=1e-5)
        assert answer.finish_reason == ("stop" if answer.token_ids[-1] == END else "length")


def test_one_beam_is_greedy_and_the_context_ends_it() -> None:
    model, tokenizer = random_decoder(seed=1).eval(), tiny_tokenizer()
    engine = Engine(model, tokenizer, [])
    prompt = random_ids(40, seed=5)
    greedy = complete(engine, [Request(prompt=prompt, sampling=Sampling(temperature=0))])[0]
    (found,) = beam_search(engine, prompt, beams=1, max_tokens=100)
    assert (found.token_ids, found.text, found.finish_reason) == (greedy.token_ids, greedy.text, "length")
    assert found.score == pytest.approx(sum(greedy.log_probabilities) / 24, abs=1e-4)
    assert engine.idle and engine.scheduler.blocks.free == engine.scheduler.blocks.count


def test_bad_settings_are_refused() -> None:
    engine = Engine(MODEL, tiny_tokenizer(), [END])
    for settings in ({"beams": 0}, {"beams": 20}, {"max_tokens": 0}, {"early_stopping": "maybe"}):
        with pytest.raises(OwnlmError):
            beam_search(engine, [0], **({"beams": 2, "max_tokens": 3} | settings))  # type: ignore[arg-type]
