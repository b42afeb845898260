"""Speculation by a smaller model of the same tokenizer, which writes a few tokens ahead greedily."""

from collections.abc import Sequence as Ids
from dataclasses import dataclass, field

from ownlm.engine.blocks import BLOCK, Blocks
from ownlm.engine.paged_cache import PagedCache
from ownlm.engine.runner import Runner
from ownlm.engine.scheduler import Turn
from ownlm.engine.sequence import Sequence
from ownlm.errors import OwnlmError
from ownlm.model import Decoder


@dataclass(eq=False)
class _Copy:
    """A text as the draft model has it: the same tokens, and its guesses behind them."""

    prompt_length: int
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    scores_prompt = embeds = False
    adapter = None

    @property
    def waiting_tokens(self) -> int:
        return len(self.tokens) - self.computed


class DraftModel:
    """`blocks`: as many as the engine's own. `at_once`: tokens of a text that are read in one step."""

    def __init__(self, model: Decoder, main: Runner, *, blocks: int, most: int = 5, at_once: int = 512) -> None:
        if model.config.vocab_size < main.width:
            raise OwnlmError(
                f"the draft model knows {model.config.vocab_size:,} tokens, the model {main.width:,}; "
                "take one with the same tokenizer"
            )
        cache = PagedCache(model.config, blocks=blocks, device=model.device, dtype=main.cache.keys.dtype)
        self.runner = Runner(model, cache, width=main.width, never=main.never.tolist())
        self.blocks, self.most, self.at_once = Blocks(blocks), most, at_once
        self.context = model.config.max_position_embeddings
        self._copies: dict[Sequence, _Copy] = {}

    def propose(self, sequences: Ids[Sequence]) -> list[list[int]]:
        copies = [self._follow(sequence) for sequence in sequences]
        drafts: list[list[int]] = [[] for _ in sequences]
        for _ in range(self.most):
            turns = [turn for copy in copies if (turn := self._turn(copy)) is not None]
            if not turns:
                break
            scores = dict(zip((id(turn.sequence) for turn in turns), self.runner.run(turns), strict=True))
            for turn in turns:
                turn.sequence.computed += turn.count
            for copy, guessed in zip(copies, drafts, strict=True):
                logits_RV = scores.get(id(copy))
                if logits_RV is not None:
                    guessed.append(int(logits_RV[-1].argmax()))
                    copy.tokens.append(guessed[-1])
        return drafts

    def learn(self, sequence: Sequence, drafted: int, right: int) -> None:
        """It guesses as many each time."""

    def forget(self, sequence: Sequence) -> None:
        copy = self._copies.pop(sequence, None)
        if copy is not None:
            self.blocks.release(copy.blocks)

    def _follow(self, sequence: Sequence) -> _Copy:
        """The copy with the text's own tokens, as many of them still computed as were guessed right."""
        copy = self._copies.setdefault(sequence, _Copy(prompt_length=sequence.prompt_length))
        same = max(0, copy.computed - self.most)
        while same < copy.computed and same < len(sequence.tokens) and copy.tokens[same] == sequence.tokens[same]:
            same += 1
        # The last token is read again in any case: it says what comes next.
        copy.computed = min(same, len(sequence.tokens) - 1)
        copy.tokens = list(sequence.tokens)
        return copy

    def _turn(self, copy: _Copy) -> Turn | None:
        """What the copy reads next; None where there is no place for it."""
        count = min(copy.waiting_tokens, self.at_once)
        end = copy.computed + count
        while end < self.context and len(copy.blocks) * BLOCK < end:
            block = self.blocks.take(after=copy.blocks[-1] if copy.blocks else None)
            if block is None:
                return None
            copy.blocks.append(block)
        if end >= self.context:
            return None
        return Turn(sequence=copy, count=count, draws=count == copy.waiting_tokens)  # type: ignore[arg-type]
