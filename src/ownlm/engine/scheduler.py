"""Who computes what in the next step, and which blocks it is kept in.

    add ──▶ waiting ──(blocks for all its tokens?)──▶ running ──▶ finished
               ▲                                         │
               └────── put back when blocks run out ─────┘   its blocks are let go; it is read again later

A step has `step_tokens` tokens. Every text that is being written gets one first (and its drafts, tokens that
speculation proposes); what is left goes to prompts, a piece of each, in order. So a long prompt delays nobody.

The order is that of arrival, which priority shifts; it never changes, and only the last of it is put back. So the
first of those present always goes on, and nobody waits for ever.
"""

from bisect import insort
from collections.abc import Callable
from collections.abc import Sequence as Ids
from dataclasses import dataclass, replace

from ownlm.engine.blocks import BLOCK, Blocks
from ownlm.engine.sequence import Sequence

# One level of priority lets a request go before so many that came earlier.
PATIENCE = 1000

# Guesses how each text goes on; an empty one is no guess.
Propose = Callable[[Ids[Sequence]], Ids[Ids[int]]]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """`count` known tokens of a text, from its `computed`-th on, and drafts behind them.

    `draws`: is the last known token among them, so that the next can be drawn?
    """

    sequence: Sequence
    count: int
    draws: bool
    drafts: Ids[int] = ()


class Scheduler:
    def __init__(self, blocks: Blocks, *, max_sequences: int, step_tokens: int, share_prefixes: bool) -> None:
        self.blocks = blocks
        self.max_sequences, self.step_tokens, self.share_prefixes = max_sequences, step_tokens, share_prefixes
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        # Of the step that is being planned: whoever is put back for another loses its turn.
        self._counts: dict[Sequence, int] = {}

    def add(self, sequence: Sequence) -> None:
        insort(self.waiting, sequence, key=_order)

    def drop(self, sequence: Sequence) -> None:
        """The text has ended or was cancelled: whatever it holds is let go."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._let_go(sequence)

    def plan(self, propose: Propose | None = None) -> list[Turn]:
        """The next step's turns; empty only when nobody is there."""
        left = self.step_tokens
        self._counts.clear()
        writing = [sequence for sequence in self.running if sequence.waiting_tokens == 1]
        reading = [sequence for sequence in self.running if sequence.waiting_tokens > 1]
        for sequence in writing:
            left -= self._give(sequence, left)
        for sequence in reading:
            # Whoever waits and comes before it in the order is read before it.
            left -= self._admit_all(left, before=sequence)
            left -= self._give(sequence, left)
        left -= self._admit_all(left)
        turns = [
            Turn(sequence=sequence, count=count, draws=count == sequence.waiting_tokens and not sequence.embeds)
            for sequence, count in self._counts.items()
        ]
        return turns if propose is None else self._with_drafts(turns, propose, left)

    def publish(self, sequence: Sequence, before: int) -> None:
        """Let others share the whole blocks that were filled since `before` tokens were computed."""
        if self.share_prefixes:
            for block in range(before // BLOCK, sequence.computed // BLOCK):
                self.blocks.publish(sequence.blocks[block], sequence.block_hash(block))

    def _give(self, sequence: Sequence, left: int) -> int:
        """The next step's tokens of a text that runs, up to `left`."""
        count = min(sequence.waiting_tokens, left)
        if not count or sequence not in self.running or not self._make_room(sequence, count):
            return 0
        self._counts[sequence] = count
        return count

    def _admit_all(self, left: int, before: Sequence | None = None) -> int:
        given = 0
        while given < left and (admitted := self._admit(before)) is not None:
            self._counts[admitted] = min(admitted.waiting_tokens, left - given)
            given += self._counts[admitted]
        return given

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Blocks for `count` more tokens, if need be those of texts that come later. False: it was put back itself."""
        while not self._extend(sequence, sequence.computed + count):
            last = self.running[-1]
            self._put_back(last)
            if last is sequence:
                return False
        return True

    def _extend(self, sequence: Sequence, tokens: int) -> bool:
        while len(sequence.blocks) * BLOCK < tokens:
            block = self.blocks.take(after=sequence.blocks[-1] if sequence.blocks else None)
            if block is None:
                return False
            sequence.blocks.append(block)
        return True

    def _admit(self, before: Sequence | None = None) -> Sequence | None:
        """The first that waits, with blocks for all its tokens; texts that come later may be put back for it.

        None also where it comes no earlier than `before`.
        """
        sequence = next((sequence for sequence in self.waiting if sequence.ready), None)
        if sequence is None or (before is not None and sequence.order >= before.order):
            return None
        while len(self.running) >= self.max_sequences or not self._fits(sequence):
            # Answers to one prompt are equal in order: none is put back for another.
            if not self.running or self.running[-1].order <= sequence.order:
                return None
            self._put_back(self.running[-1])
        self.waiting.remove(sequence)
        for block in self._shared(sequence):
            self.blocks.share(block)
            sequence.blocks.append(block)
        sequence.computed = len(sequence.blocks) * BLOCK
        taken = self._extend(sequence, len(sequence.tokens))
        assert taken
        if sequence.choice == 0 and not sequence.drawn:
            sequence.ticket.cached_tokens = max(sequence.ticket.cached_tokens, sequence.computed)
        insort(self.running, sequence, key=_order)
        return sequence

    def _fits(self, sequence: Sequence) -> bool:
        shared = self._shared(sequence)
        needed = -(-len(sequence.tokens) // BLOCK) - len(shared)
        return needed <= self.blocks.free - sum(self.blocks.is_free(block) for block in shared)

    def _shared(self, sequence: Sequence) -> list[int]:
        """Blocks that hold the text's beginning already. Its last token is read in any case: it says what comes next.

        Who asks how likely the prompt is, or for its embedding, needs it read.
        """
        found: list[int] = []
        if self.share_prefixes and sequence.ticket.prompt_tokens is None and not sequence.embeds:
            for place in range((len(sequence.tokens) - 1) // BLOCK):
                block = self.blocks.find(sequence.block_hash(place))
                if block is None:
                    break
                found.append(block)
        return found

    def _put_back(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self._counts.pop(sequence, None)
        self.running.remove(sequence)
        self._let_go(sequence)
        insort(self.waiting, sequence, key=_order)

    def _let_go(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0

    def _with_drafts(self, turns: list[Turn], propose: Propose, left: int) -> list[Turn]:
        """Drafts only where there is place: nobody is put back for a guess."""
        drawing = [turn.sequence for turn in turns if turn.draws and turn.sequence.room > 1]
        proposed = dict(zip(map(id, drawing), propose(drawing), strict=True))
        with_drafts: list[Turn] = []
        for turn in turns:
            sequence = turn.sequence
            drafts = proposed.get(id(sequence), ())[: max(0, min(left, sequence.room - 1))]
            held = sequence.computed + turn.count
            if drafts and not self._extend(sequence, held + len(drafts)):
                drafts = drafts[: len(sequence.blocks) * BLOCK - held]
            left -= len(drafts)
            with_drafts.append(replace(turn, drafts=drafts))
        return with_drafts


def _order(sequence: Sequence) -> int:
    return sequence.order
