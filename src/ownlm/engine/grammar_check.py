"""A grammar is tried in a process of its own before it is used: a script that grammar.py runs.

In:  {"kind": ..., "text": ...} as JSON on standard input.
Out: {"grammar": what llguidance takes} or {"error": a line} as JSON on standard output; nothing if the trial died.

llguidance has limits, but none covers everything: a thousand rules that name one another in a chain overflow its
stack, and {"multipleOf": 9999991} keeps it busy for minutes. Either would take the engine and all its requests down.
So the trial has a small stack, a second of computing and its own memory, and may die. It costs a tenth of a second.

Standard library and llguidance alone: it must start fast.
"""

import json
import re
import sys
import threading
from typing import Any

SECONDS = 1
MEMORY = 2**31
# Less than any thread has that may compile the grammar again: the least is 2 MB, Windows' main thread.
STACK = 2**20

# A model that is asked for JSON may otherwise write blanks until its tokens end.
JSON_DEFAULTS = {"whitespace_pattern": r"[\x20\x0A]{1,24}"}

_PLAIN = {
    "NoExtension": "no text satisfies it",
    "missing special token prefix": "it names a special token, and a grammar is about text alone",
    "ParserTooComplex": "it has too many ways to read a text",
    "too big": "it is too large once written out",
}


def plain_reason(error: str) -> str:
    """One line of what llguidance says in many."""
    for sign, meaning in _PLAIN.items():
        if sign in error:
            return meaning
    of_regex = re.search(r"^error: (.*)$", error, re.MULTILINE)
    line = of_regex[1] if of_regex else error.strip().split("\n")[0]
    return line.removeprefix("panic: ").strip()[:300]


def grammar_for_llguidance(kind: str, text: str) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import gbnf_to_lark

    if kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(json.loads(text), defaults=JSON_DEFAULTS)  # type: ignore[arg-type]
    if kind == "regex":
        # It is put between slashes, which an open backslash would let it leave.
        if (len(text) - len(text.rstrip("\\"))) % 2:
            raise ValueError("it ends in an open backslash")
        return LLMatcher.grammar_from_regex(text)
    if kind == "gbnf":
        text = gbnf_to_lark(text)
    elif text.lstrip().startswith("{"):
        raise ValueError("it is JSON, not Lark")
    return LLMatcher.grammar_from_lark(text)


class Bytes:
    """What llguidance wants of a tokenizer, for one that has the 256 bytes and an end."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    eos_token_id = 256
    # 255 marks special tokens there, and stands in no text.
    tokens = [*(bytes([byte]) for byte in range(255)), b"", b""]  # noqa: RUF012
    special_token_ids: tuple[int, ...] = ()

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


def trial(kind: str, text: str) -> dict[str, str]:
    from llguidance import LLMatcher, LLTokenizer

    try:
        grammar = grammar_for_llguidance(kind, text)
    except RecursionError:
        return {"error": "it is too deeply nested"}
    except Exception as error:  # gbnf_to_lark raises no narrower kind
        return {"error": plain_reason(str(error))}
    matcher = LLMatcher(LLTokenizer(Bytes()), grammar, log_level=0)  # type: ignore[arg-type]
    if not matcher.is_error():
        matcher.compute_bitmask()
    return {"error": plain_reason(matcher.get_error())} if matcher.is_error() else {"grammar": grammar}


def main() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked: dict[str, Any] = json.load(sys.stdin)
    found: list[dict[str, str]] = []
    threading.stack_size(STACK)
    thread = threading.Thread(target=lambda: found.append(trial(asked["kind"], asked["text"])))
    thread.start()
    thread.join()
    json.dump(found[0], sys.stdout)


if __name__ == "__main__":
    main()
