"""What a rule has decided about a text; the text itself goes no further than its digest."""

from dataclasses import dataclass
from typing import Literal

from ownlm.server.guard.policy import Rule


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`action`: the rule's own, or "allow" where a guard model failed and its rule lets that pass. `text`: what it is
    about. `because`: how a guard model failed.
    """

    rule: Rule
    where: Literal["input", "output"]
    action: Literal["refuse", "mask", "log", "allow"]
    text: str
    because: str | None = None
