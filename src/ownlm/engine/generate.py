"""Generation: many prompts side by side, a token each a step, through one cache.

    prompts, padded on the left   . . what is len(        ──▶  read at once (prefill)
                                  say hello to me
    then a step a token           one id a row in, one logits row out, choose, repeat; ended rows leave

Every row's numbers depend on that row alone, to within the last bits of a matrix product.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ownlm.engine.request import Completion, Piece, Request
from ownlm.engine.sampler import Sampler
from ownlm.engine.stop import StopStrings
from ownlm.errors import OwnlmError
from ownlm.model import Decoder, KeyValueCache
from ownlm.tokenizer import Tokenizer

# Prompts of one batch share a padded rectangle: more rows than this gain nothing on a processor.
BATCH = 32


class _Row:
    """The state of one answer: what was drawn, and what of its text may be given out."""

    def __init__(self, index: int, request: Request, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        self.index, self.sampling = index, request.sampling
        self.read = len(request.prompt)
        self.drawn = 0
        self.ends = (frozenset() if request.sampling.ignore_eos else ends).union(request.sampling.stop_ids)
        self.sampler = Sampler(request.sampling, request.prompt, end_ids=sorted(self.ends))
        self.text = tokenizer.stream(after=request.prompt)
        self.stop = StopStrings(request.sampling.stop)

    def draw(self, logits_V: Tensor, room: int) -> Piece:
        """Choose the next token; `room` is how many more the context has place for."""
        drawn = self.sampler.draw(logits_V.float())
        token, probability = drawn.token_id, math.exp(drawn.logprob)
        self.drawn += 1
        if token in self.ends:
            return self._piece(token, self.stop.push(self.text.finish()), probability, "stop")
        text = self.stop.push(self.text.push(token))
        if self.stop.found is not None:
            return Piece(token_id=token, text=text, probability=probability, finish_reason="stop")
        if self.drawn >= self.sampling.max_tokens or room <= 1:
            return self._piece(token, text + self.stop.push(self.text.finish()), probability, "length")
        return Piece(token_id=token, text=text, probability=probability)

    def _piece(self, token: int, text: str, probability: float, reason: str) -> Piece:
        return Piece(token_id=token, text=text + self.stop.finish(), probability=probability, finish_reason=reason)


@torch.inference_mode()
def stream(
    model: Decoder, tokenizer: Tokenizer, requests: Sequence[Request], end_ids: Sequence[int]
) -> Iterator[tuple[int, Piece]]:
    """Pieces of every request's answer as they are drawn, with the request's place in `requests`.

    The last piece of each has a finish_reason. Closing the iterator stops the work.
    """
    limit = model.config.max_position_embeddings
    for request in requests:
        if not request.prompt:
            raise OwnlmError("the prompt is empty; give at least one token to go on from")
        if len(request.prompt) >= limit:
            raise OwnlmError(f"the prompt has {len(request.prompt)} tokens, the model's context is {limit}; shorten it")
    # A model may end its text, but never write what only the template puts, nor an id that stands for nothing.
    width = min(tokenizer.vocab_size, model.config.vocab_size)
    for request in requests:
        request.sampling.check_ids(width)
    never = torch.tensor(
        sorted(id for id in set(tokenizer.never_generated) - set(end_ids) if id < width), dtype=torch.long
    )
    rows = [_Row(index, request, tokenizer, frozenset(end_ids)) for index, request in enumerate(requests)]
    prompts = [request.prompt for request in requests]
    longest = max(map(len, prompts))
    padding_B = torch.tensor([longest - len(prompt) for prompt in prompts], device=model.device)
    most = max(min(row.sampling.max_tokens, limit - len(prompt)) for row, prompt in zip(rows, prompts, strict=True))
    cache = KeyValueCache(
        model.config, batch=len(rows), capacity=longest + most, device=model.device, padding_B=padding_B
    )
    # Any id will do: no row looks at its padding.
    padding = tokenizer.pad_id or 0
    padded = [[padding] * (longest - len(prompt)) + prompt for prompt in prompts]
    tokens_BT = torch.tensor(padded, device=model.device)
    while True:
        # Only the last position's logits are wanted, and never those of ids that no text has.
        hidden_BE = model.hidden(tokens_BT, cache=cache)[:, -1]
        logits_BV = model.head(hidden_BE)[:, :width].cpu().index_fill(1, never, -torch.inf)
        going: list[int] = []
        drawn: list[int] = []
        for place, row in enumerate(rows):
            piece = row.draw(logits_BV[place], room=limit - row.read - row.drawn)
            yield row.index, piece
            if piece.finish_reason is None:
                going.append(place)
                drawn.append(piece.token_id)
        if not going:
            return
        if len(going) < len(rows):
            cache.keep_rows(torch.tensor(going, device=model.device))
            rows = [rows[place] for place in going]
        tokens_BT = torch.tensor(drawn, device=model.device).unsqueeze(1)


def complete(
    model: Decoder,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    end_ids: Sequence[int],
    *,
    batch: int = BATCH,
) -> list[Completion]:
    """Whole answers, in the order of `requests`; prompts of like length share a batch."""
    completions: dict[int, Completion] = {}
    by_length = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt))
    for first in range(0, len(by_length), batch):
        group = by_length[first : first + batch]
        pieces: dict[int, list[Piece]] = {index: [] for index in group}
        for place, piece in stream(model, tokenizer, [requests[index] for index in group], end_ids):
            pieces[group[place]].append(piece)
        completions.update((index, _complete(pieces[index])) for index in group)
    return [completions[index] for index in range(len(requests))]


def _complete(pieces: list[Piece]) -> Completion:
    reason = pieces[-1].finish_reason
    assert reason is not None
    return Completion(
        text="".join(piece.text for piece in pieces),
        token_ids=[piece.token_id for piece in pieces],
        log_probabilities=[float(torch.tensor(piece.probability).log()) for piece in pieces],
        finish_reason=reason,
    )
