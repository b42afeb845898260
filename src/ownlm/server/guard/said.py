"""One answer under a policy's output rules: its pieces are held back until nothing forbidden can begin in them.

    ... sent | looked at, clear | held: as long as the longest match of any rule | what the model draws
             └─ 64 characters before: what a word's edge, and the words before a date, are told by

The end of the prompt counts as sent: whoever writes the first half of a word himself gets no second half. A masked
place is one piece's text, the others it covers say nothing. Where a rule changes what is said, tokens and chances of
all pieces are taken off, so that none can tell what is hidden.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ownlm.engine import Piece
from ownlm.server.guard.asked import masked, matches
from ownlm.server.guard.decision import Decision
from ownlm.server.guard.find import Match, Personal
from ownlm.server.guard.plain import Plain
from ownlm.server.guard.policy import Rule

# Characters before what is looked at; characters that come before there is a look again, for it takes its time.
BEFORE, _STEP = 64, 16
# A letter that is not whole yet: a \u escape, marks that join it.
_SLACK = 8
# What is behind it is let go of now and then.
_LETS_GO = 4096


@dataclass(kw_only=True)
class Outcome:
    """`pieces` may be sent. `refused`: by which rule the answer ends behind them."""

    pieces: list[Piece] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    refused: Rule | None = None


class SaidCheck:
    """`before`: what stands before the answer. `quiet_id`: the id of pieces whose token is hidden."""

    def __init__(self, rules: Sequence[Rule], before: str, *, quiet_id: int) -> None:
        rules = [rule for rule in rules if rule.output]
        self._rules = [rule for rule in rules if rule.finder is not None]
        self._all = any(rule.hold_all for rule in rules)
        longest = [rule.finder.longest or 0 for rule in self._rules if rule.finder is not None]
        self._window = max(longest, default=0) + 1 + _SLACK
        self._changes = any(rule.action != "log" for rule in rules)
        self._follows_addresses = any(isinstance(rule.finder, Personal) for rule in self._rules)
        self._quiet_id = quiet_id
        # Places are in `_text`: all before `_done` is decided, all before `_sent` is out.
        self._text = before[-self._window - BEFORE :] if self._rules else ""
        self._sent = self._begun = len(self._text)
        self._done = max(0, self._sent - self._window)
        self._looked = self._sent
        self._noted = 0  # matches that begin before it have been noted, if they are only noted
        self._held: deque[Piece] = deque()
        self._masks: list[Match] = []
        self.whole = ""  # where a rule wants the whole answer
        self.sent_any = self.ended = False  # for who sends

    def push(self, pieces: Sequence[Piece]) -> Outcome:
        ended = pieces[-1].finish_reason is not None
        outcome = Outcome()
        for piece in pieces:
            self._held.append(piece)
            self._text += piece.text
        if self._all:
            self.whole += "".join(piece.text for piece in pieces)
        if not self._rules:
            self._done = len(self._text)
        elif ended or (not self._all and len(self._text) >= self._looked + _STEP):
            self._looked = len(self._text)
            self._look(outcome, ended)
        if not self._changes or not self._all or (ended and outcome.refused is None):
            self._let_out(outcome)
        return outcome

    def _look(self, outcome: Outcome, ended: bool) -> None:
        """Decide as far as the text that is there allows."""
        begin = max(0, self._done - BEFORE)
        plain = Plain(self._text[begin:])
        until = len(self._text)
        if not ended:
            until = begin + plain.origin(max(0, len(plain.text) - self._window))
            if self._follows_addresses and (place := Personal.open_from(plain.text)) is not None:
                until = min(until, begin + plain.origin(place))
        if until <= self._done:
            return
        found: list[tuple[int, int, bool, Rule, str]] = []
        for rule in self._rules:
            for start, end, kind in matches(rule, plain):
                start, end = start + begin, end + begin
                if end > max(self._done, self._begun) and (start < until or ended):
                    found.append((start, end, rule.action != "refuse", rule, kind))
        done = until
        for start, end, _, rule, kind in sorted(found, key=lambda one: one[:3]):
            if rule.action == "log" and start < self._noted:
                continue
            outcome.decisions.append(
                Decision(rule=rule, where="output", action=rule.action, text=self._text[start:end])
            )
            if rule.action == "refuse":
                outcome.refused, done = rule, max(self._sent, start)
                break
            if rule.action == "mask":
                self._masks.append((max(start, self._done, self._sent), end, rule.masked(kind)))
                done = max(done, end)
        self._done, self._noted = done, until

    def _let_out(self, outcome: Outcome) -> None:
        while self._held:
            piece = self._held[0]
            end = self._sent + len(piece.text)
            if self._changes and end > self._done:
                break  # what is only noted holds nothing back
            self._held.popleft()
            outcome.pieces.append(self._shown(piece, self._sent, end))
            self._sent = end
        if outcome.refused is not None and self._held and self._done > self._sent:
            outcome.pieces.append(replace(self._shown(self._held[0], self._sent, self._done), finish_reason=None))
        self._masks = [one for one in self._masks if one[1] > self._sent]
        if (gone := min(self._sent, self._done) - BEFORE) > _LETS_GO:
            self._text = self._text[gone:]
            self._sent, self._done, self._looked = self._sent - gone, self._done - gone, self._looked - gone
            self._begun, self._noted = max(0, self._begun - gone), self._noted - gone
            self._masks = [(begin - gone, end - gone, instead) for begin, end, instead in self._masks]

    def _shown(self, piece: Piece, begin: int, end: int) -> Piece:
        if not self._changes:
            return piece
        # A mask stands where it begins; what it covers of later pieces is left away.
        covered = [
            (max(0, start - begin), min(stop, end) - begin, instead if start >= begin else "")
            for start, stop, instead in self._masks
            if start < end and stop > begin
        ]
        text = masked(self._text[begin:end], covered)
        return replace(piece, text=text, token_id=self._quiet_id, logprob=0.0, top=(), offset=0)
