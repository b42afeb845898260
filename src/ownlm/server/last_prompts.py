"""Why a prompt's beginning was not found computed: the first token at which it leaves those that were asked before it.

    prompt ──compared with the key's last ones──▶ Difference: from token 37 on, " Tuesday" where there was " Monday"

What two keys ask is never compared.
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ownlm.engine import Request
from ownlm.tokenizer import Tokenizer

# Prompts of one owner, and owners, that are remembered: some megabytes at most.
_PROMPTS, _OWNERS = 8, 128


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`place` tokens are the same; then comes `here`, and came `before` in the earlier prompt: None where one ends."""

    place: int
    here: int | None
    before: int | None

    def told(self, tokenizer: Tokenizer) -> dict[str, int | str | None]:
        here, before = (
            None if id is None else tokenizer.token_bytes(id).decode("utf-8", "replace")
            for id in (self.here, self.before)
        )
        return {"same_tokens": self.place, "token": here, "token_before": before}


class LastPrompts:
    def __init__(self) -> None:
        self._by_owner: OrderedDict[Hashable, deque[array[int]]] = OrderedDict()

    def note(self, request: Request, adapter: str | None = None) -> "tuple[array[int], ...]":
        """Remembers the prompt; returns those before it that a beginning could be shared with."""
        owner = (request.cache_salt, adapter)
        last = self._by_owner.pop(owner, None) or deque(maxlen=_PROMPTS)
        self._by_owner[owner] = last
        if len(self._by_owner) > _OWNERS:
            self._by_owner.popitem(last=False)
        before = tuple(last)
        last.append(array("i", request.prompt))
        return before


def first_difference(prompt: Sequence[int], before: "Sequence[array[int]]") -> Difference | None:
    """From the most alike of those `before`; None: there was none."""
    ids = array("i", prompt)
    if not before:
        return None
    place, other = max(((_same(ids, other), other) for other in before), key=lambda one: one[0])
    here, there = (one[place] if place < len(one) else None for one in (ids, other))
    return Difference(place=place, here=here, before=there)


def _same(first: "array[int]", second: "array[int]") -> int:
    """How many tokens both begin with: by halves, for comparing bytes costs nearly nothing."""
    least, most = 0, min(len(first), len(second))
    while least < most:
        middle = (least + most + 1) // 2
        if first[least:middle] == second[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
