"""One answer on its way: its tokens, how many of them the cache holds, and what of its text may be given out.

tokens     prompt prompt prompt drawn drawn          `computed` counts those with keys and values in `blocks`;
computed   ------------------------->                the last token drawn is always yet to be read
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.engine.blocks import BLOCK, chain_hash
from ownlm.engine.request import Piece, PromptToken, Ticket
from ownlm.engine.sampler import Sampler, likeliest
from ownlm.engine.stop import StopStrings
from ownlm.errors import OwnlmError
from ownlm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ownlm.engine.grammar import Matcher


class Sequence:
    def __init__(
        self,
        ticket: Ticket,
        choice: int,
        tokenizer: Tokenizer,
        *,
        ends: frozenset[int],
        limit: int,
        order: int,
        salt: bytes,
        matcher: "Matcher | None" = None,
        leader: "Sequence | None" = None,
    ) -> None:
        """`limit`: tokens that prompt and answer may have together. `order`: the lower goes first.

        `leader`: another answer to the same prompt, which reads it first.
        """
        request = ticket.request
        self.ticket, self.choice, self.order, self.limit = ticket, choice, order, limit
        self.sampling, self.adapter = request.sampling, request.adapter
        self.tokens = list(request.prompt)
        self.prompt_length = len(self.tokens)
        self.computed = 0
        self.blocks: list[int] = []
        self.drawn = 0
        self.finished = False
        self.embeds = request.embed
        self._pooled, self._states_E = 0, torch.zeros((), dtype=torch.float64)
        self.matcher, self._leader = matcher, leader
        self._hashes = [salt]
        self._ends = frozenset(self.sampling.stop_ids) | (frozenset() if self.sampling.ignore_eos else ends)
        self._sampler = Sampler(self.sampling, request.prompt, choice=choice, end_ids=tuple(ends | self._ends))
        self._text = tokenizer.stream(after=request.prompt)
        self._stop = StopStrings(self.sampling.stop)
        self._spelt = 0  # characters of all tokens so far, given out or not

    @property
    def waiting_tokens(self) -> int:
        """Tokens that are known and not yet in the cache; 1 for a text that is being written."""
        return len(self.tokens) - self.computed

    @property
    def room(self) -> int:
        """How many more tokens may be drawn."""
        return min(self.sampling.max_tokens - self.drawn, self.limit - len(self.tokens))

    @property
    def ready(self) -> bool:
        """May it begin? Not before its leader has read what they share."""
        leader = self._leader
        return leader is None or leader.finished or leader.drawn > 0

    @property
    def scores_prompt(self) -> bool:
        """Is it this answer that says how likely the prompt is, and is there more of it to read?"""
        return self.choice == 0 and self.ticket.prompt_tokens is not None and self.computed < self.prompt_length

    def block_hash(self, block: int) -> bytes:
        """The hash of the text's `block`-th whole block and all before it."""
        while len(self._hashes) < block + 2:
            place = (len(self._hashes) - 1) * BLOCK
            self._hashes.append(chain_hash(self._hashes[-1], self.tokens[place : place + BLOCK]))
        return self._hashes[block + 1]

    def draw(self, logits_V: Tensor) -> Piece:
        """Choose the next token from its scores."""
        drawn = self._sampler.draw(logits_V, None if self.matcher is None else self.matcher.mask)
        token = drawn.token_id
        self.tokens.append(token)
        self.drawn += 1
        ended = token in self._ends
        if self.matcher is not None and not ended:
            self.matcher.accept(token)
        text = self._text.finish() if ended else self._text.push(token)
        offset, self._spelt = self._spelt, self._spelt + len(text)
        text = text if self.drawn < self.sampling.min_tokens else self._stop.push(text)
        reason: str | None = None
        if ended or self._stop.found is not None or (self.matcher is not None and self.matcher.ended):
            reason = "stop"
        elif self.room <= 0:
            reason = "length"
        if reason is not None:
            self.finished = True
            if self._stop.found is None:
                # Whatever was held back for the other half of a character or of a stop string.
                text += self._stop.push("" if ended else self._text.finish())
                text += self._stop.finish()
        return Piece(
            token_id=token,
            text=text,
            logprob=drawn.logprob,
            top=drawn.top,
            offset=offset,
            choice=self.choice,
            finish_reason=reason,
            stop=self._stop.found,
            complete=reason is None or self.matcher is None or self.matcher.complete or self.matcher.ended,
        )

    def pool(self, first: int, hidden_TE: Tensor) -> None:
        """Add hidden states of the prompt's tokens from `first` on to its embedding, and end it with the last.

        OwnlmError where they are no numbers.
        """
        # A text that was put back for want of room is read again; what is in the sum already is not added twice.
        fresh_TE = hidden_TE[max(0, self._pooled - first) :]
        self._pooled += len(fresh_TE)
        # In double precision, so that it does not show how the prompt was cut.
        self._states_E = self._states_E + fresh_TE.double().sum(0)
        if self._pooled < self.prompt_length:
            return
        embedding_E = F.normalize(self._states_E, dim=0).float()
        if not bool(embedding_E.isfinite().all()):
            raise OwnlmError("the model's hidden states are not finite numbers; its weights are damaged, fetch it anew")
        self.ticket.embedding_E, self.finished = embedding_E, True

    def score_prompt(self, first: int, logprobs_TV: Tensor) -> None:
        """Note how likely the prompt's tokens are: row t of the scores, logarithms of probabilities already, has read
        tokens up to `first` + t."""
        scored = self.ticket.prompt_tokens
        assert scored is not None
        for place, logprobs_V in enumerate(logprobs_TV, start=first + 1):
            # A text that was put back for want of room is read again; what is known already is not noted twice.
            if place < self.prompt_length and place == len(scored) + 1:
                token = self.tokens[place]
                top = tuple(likeliest(logprobs_V, self.sampling.logprobs or 0))
                scored.append(PromptToken(token_id=token, logprob=float(logprobs_V[token]), top=top))
