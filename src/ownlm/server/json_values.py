"""A body's values before anything reads them: what Python's JSON reader takes and no JSON can hold is refused by place.

    {"messages": [{"role": "user", "content": "\\ud800"}]}  ─▶  messages[0].content holds half a character

Half a surrogate pair cannot be written as UTF-8 again, NaN and infinity not as JSON, and what is nested without end
exhausts whoever reads it next.
"""

import math
from typing import Any

from ownlm.server.errors import bad

# A schema of 60 objects within each other is read; nobody's tool is as deep.
DEEPEST = 200


def check_values(body: Any) -> None:
    """ApiError names the field that is wrong."""
    waiting: list[tuple[Any, str, int]] = [(body, "", 0)]
    while waiting:
        value, where, depth = waiting.pop()
        if depth > DEEPEST:
            field = where.partition(".")[0].partition("[")[0]
            raise bad(f"{field} holds more than {DEEPEST} values within each other", field)
        if isinstance(value, str):
            if not is_text(value):
                raise bad(f"{_shown(where)} holds half a character (a lone surrogate)", _shown(where))
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise bad(f"{_shown(where)} is no number that JSON can hold", _shown(where))
        elif isinstance(value, dict):
            for name, below in value.items():
                if not is_text(name):
                    place = _shown(where)
                    raise bad(f"{place} has a field whose name holds half a character (a lone surrogate)", place)
                waiting.append((below, f"{where}.{name[:64]}" if where else name[:64], depth + 1))
        elif isinstance(value, list):
            waiting += [
                (below, f"{where}[{place}]", depth + 1) for place, below in enumerate(value) if type(below) is not int
            ]


def is_text(text: str) -> bool:
    """Can it be written as UTF-8?"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(where: str) -> str:
    return where[:200] or "body"
