"""Beam search: keep the likeliest few beginnings, and go on from all of them at once.

    beams     "the cat"  -1.2                    their likeliest next tokens, together:
              "a dog"    -1.9      ──▶           "the cat sat" -1.9   "a dog ran" -2.2   "the cat." -2.4 (an end)
                                                 the best of them are the next beams; an end among them is set aside

Each step asks the engine for one token after every beam: what beams share is found in its cache, not computed again.

A score is the sum of a text's logarithms divided by its number of tokens to the power of length_penalty. The rules,
and when it ends, are those of transformers' generate(num_beams=...).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ownlm.engine.engine import Engine
from ownlm.engine.generate import complete
from ownlm.engine.request import Completion, Request
from ownlm.engine.sampling import MOST_LOGPROBS, Sampling
from ownlm.errors import OwnlmError
from ownlm.model.lora import LoraAdapter


@dataclass(frozen=True, kw_only=True)
class ScoredCompletion(Completion):
    score: float


@dataclass(frozen=True, kw_only=True)
class _Beam:
    """Drawn tokens with their logarithms, and these added up."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    total: float = 0.0

    def plus(self, token: int, logprob: float) -> "_Beam":
        return _Beam(tokens=(*self.tokens, token), logprobs=(*self.logprobs, logprob), total=self.total + logprob)


def beam_search(
    engine: Engine,
    prompt: list[int],
    *,
    beams: int,
    max_tokens: int,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
    adapter: LoraAdapter | None = None,
    cache_salt: str = "",
) -> list[ScoredCompletion]:
    """The `beams` best answers, the best first.

    length_penalty above 0 favours long answers, below 0 short ones. early_stopping True: end with the first `beams`
    whole answers; False: when the beams, as long as they are, are no better than those; "never": when they could
    not become so.
    """
    most = MOST_LOGPROBS - len(engine.end_ids)
    if not 1 <= beams <= most:
        raise OwnlmError(f"beams must be between 1 and {most}, got {beams}")
    if early_stopping not in (True, False, "never"):
        raise OwnlmError(f'early_stopping must be True, False or "never", got {early_stopping!r}')
    engine.check(Request(prompt=prompt, sampling=Sampling(max_tokens=max_tokens)))
    max_tokens = min(max_tokens, engine.context - len(prompt))
    # Of each beam so many next tokens that among them are `beams` that are no end.
    sampling = Sampling(max_tokens=1, temperature=0, logprobs=beams + len(engine.end_ids))
    request = Request(prompt=prompt, sampling=sampling, adapter=adapter, cache_salt=cache_salt)

    def score(beam: _Beam, tokens: int) -> float:
        return float(beam.total / tokens**length_penalty)

    running, ended = [_Beam()], list[_Beam]()
    for length in range(1, max_tokens + 1):
        found = sorted(_continued(engine, request, running), key=lambda beam: -beam.total)
        # An end counts only where it is itself among the best; at max_tokens everything ends.
        ended += [beam for beam in found[:beams] if length == max_tokens or beam.tokens[-1] in engine.end_ids]
        ended = sorted(ended, key=lambda beam: -score(beam, len(beam.tokens)))[:beams]
        running = [beam for beam in found if beam.tokens[-1] not in engine.end_ids][:beams]
        if not running:
            break
        if len(ended) == beams:
            longest = max_tokens if early_stopping == "never" and length_penalty > 0 else length
            worst = score(ended[-1], len(ended[-1].tokens))
            if early_stopping is True or score(running[0], longest) <= worst:
                break
    return [_answer(engine, prompt, beam, score(beam, len(beam.tokens))) for beam in ended]


def _continued(engine: Engine, request: Request, running: list[_Beam]) -> Iterator[_Beam]:
    """Every beam with each of its likeliest next tokens."""
    requests = [replace(request, prompt=[*request.prompt, *beam.tokens]) for beam in running]
    for beam, answer in zip(running, complete(engine, requests), strict=True):
        for token, logprob in answer.top[0]:
            yield beam.plus(token, logprob)


def _answer(engine: Engine, prompt: list[int], beam: _Beam, score: float) -> ScoredCompletion:
    is_whole = beam.tokens[-1] in engine.end_ids
    decoder, text, offsets = engine.tokenizer.stream(after=prompt), "", []
    for token in beam.tokens:
        offsets.append(len(text))
        text += decoder.finish() if is_whole and len(offsets) == len(beam.tokens) else decoder.push(token)
    return ScoredCompletion(
        text=text + decoder.finish(),
        token_ids=list(beam.tokens),
        log_probabilities=list(beam.logprobs),
        top=[() for _ in beam.tokens],
        finish_reason="stop" if is_whole else "length",
        offsets=offsets,
        score=score,
    )
