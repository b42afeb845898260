"""What a client asks, read by a policy's input rules before a model reads it.

    texts, or ids between special tokens ──rules──▶ the same, masked, or a refusal
                                                        └──▶ guard models judge the whole, last

Ids are read as the text that they stand for; those of a run without a match stay the very ids that they were.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from ownlm.server.guard.decision import Decision
from ownlm.server.guard.find import Match
from ownlm.server.guard.plain import Plain
from ownlm.server.guard.policy import Rule
from ownlm.tokenizer import Tokenizer

# Of one text and rule; a text that is one e-mail address after another is masked whole all the same.
_MOST_NOTED = 20


class AskedCheck:
    """One request's. `texts` and `decisions` gather; `refused` is the first rule that refuses."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = [rule for rule in rules if rule.input]
        self.texts: list[str] = []
        self.decisions: list[Decision] = []
        self.refused: Rule | None = None

    @property
    def judged_by(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.judge is not None]

    def text(self, text: str) -> str:
        """The text as the model may read it."""
        if not self.rules or not text:
            return text
        self.texts.append(text)
        plain = Plain(text)
        masks: list[Match] = []
        for rule in self.rules:
            if rule.finder is None:
                continue
            for number, (begin, end, kind) in enumerate(matches(rule, plain)):
                if number < _MOST_NOTED:
                    self._decide(rule, text[begin:end])
                if rule.action == "refuse":
                    self.refused = self.refused or rule
                    break
                if rule.action == "mask":
                    masks.append((begin, end, rule.masked(kind)))
        return masked(text, masks)

    def ids(self, ids: list[int], tokenizer: Tokenizer) -> list[int]:
        """The ids that the model may read."""
        if not self.rules:
            return ids
        found: list[int] = []
        for run, is_text in _runs(ids, tokenizer):
            text = tokenizer.decode(run) if is_text else ""
            read = self.text(text)
            found += run if read == text else tokenizer.encode(read)
        return found

    def _decide(self, rule: Rule, text: str) -> None:
        self.decisions.append(Decision(rule=rule, where="input", action=rule.action, text=text))


def masked(text: str, masks: Sequence[Match]) -> str:
    """`masks`: places, and what stands there instead; where two overlap, the first."""
    parts, place = [], 0
    for begin, end, instead in sorted(masks):
        if begin >= place:
            parts += [text[place:begin], instead]
        place = max(place, end)
    return "".join([*parts, text[place:]])


def matches(rule: Rule, plain: Plain) -> Iterator[Match]:
    """Places in the text as it was given."""
    assert rule.finder is not None
    for begin, end, kind in rule.finder.find(plain.text):
        yield plain.origin(begin), plain.origin_of_end(end), kind


def _runs(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[tuple[list[int], bool]]:
    """Ids of text that stand together, and special ones; is it text? One that there is not the engine refuses."""
    special, size = frozenset(tokenizer.special.values()), tokenizer.vocab_size
    for is_text, run in groupby(ids, lambda id: 0 <= id < size and id not in special):
        yield list(run), is_text
