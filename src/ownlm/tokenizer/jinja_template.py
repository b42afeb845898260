"""A model's own chat template: Jinja in a sandbox, with limits, rendered as transformers renders it.

In:  the template's text; messages, tools and variables.
Out: text, and the spans of it that `{% generation %}` marks: what the assistant says.

Whatever a template does wrong, costs too much (jinja_limits.py) or reaches for that the sandbox forbids
(jinja_environment.py) is one line to the user.
"""

import re
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError

from ownlm.errors import OwnlmError
from ownlm.tokenizer.jinja_environment import CLOSE, OPEN, TemplateEnvironment, is_generation
from ownlm.tokenizer.jinja_limits import TooCostly

# The longest of 70 published ones has 17 thousand characters, which are 4 thousand words of Jinja. What compiling costs
# goes by the words: 0.2 s for these.
LONGEST_TEMPLATE, MOST_WORDS = 200_000, 12_000
_MARK = re.compile(f"([{OPEN}{CLOSE}])")


@dataclass(frozen=True, kw_only=True)
class RenderedText:
    """A rendered chat; `generated` are spans of `text`, in characters, as the template marks them."""

    text: str
    generated: list[tuple[int, int]]


class JinjaTemplate:
    """Compiled once; `render` may be called from any thread."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST_TEMPLATE:
            raise OwnlmError(
                f"the chat template has {len(text):,} characters, far more than any chat needs; take another"
            )
        self.text = text
        self._lock = Lock()
        self._environment = TemplateEnvironment()
        try:
            words = sum(1 for _ in islice(self._environment.lex(text), MOST_WORDS + 1))
            if words > MOST_WORDS:
                raise OwnlmError(
                    f"the chat template has more than {MOST_WORDS:,} words, far more than any chat needs; take another"
                )
            tree = self._environment.parse(text)
            self.marks_generation = any(is_generation(call) for call in tree.find_all(nodes.CallBlock))
            # What the template writes itself, for the search for token names in it.
            self.literals = [data.data for data in tree.find_all(nodes.TemplateData)]
            self.literals += [const.value for const in tree.find_all(nodes.Const) if isinstance(const.value, str)]
            self._template = self._environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise OwnlmError(
                f"the chat template has a mistake in line {error.lineno}: {error.message}; mend it, or take another"
            ) from None
        except (TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            raise OwnlmError(f"the chat template cannot be read: {_line(error)}; mend it, or take another") from None

    def render(self, **variables: Any) -> RenderedText:
        budget = self._environment.budget
        with self._lock:
            budget.start(variables)
            pieces = []
            try:
                for piece in self._template.generate(**variables):
                    budget.step()
                    budget.write(len(piece))
                    pieces.append(piece)
            except TooCostly as error:
                raise OwnlmError(f"the chat template was stopped: {error.message}; use another template") from None
            except SecurityError as error:
                raise OwnlmError(
                    f"the chat template was stopped, it reaches too far: {_line(error)}; use another template"
                ) from None
            except TemplateError as error:
                raise OwnlmError(
                    f"the chat template refuses these messages: {_line(error)}; word them as it wants"
                ) from None
            except RecursionError:
                raise OwnlmError(
                    "the chat template was stopped: it calls itself too deep; use another template"
                ) from None
            except Exception as error:  # any mistake that an expression can make
                raise OwnlmError(
                    f"the chat template fails on these messages: {_line(error)}; change them, or the template"
                ) from None
        return _without_marks("".join(pieces))


def _without_marks(text: str) -> RenderedText:
    clean: list[str] = []
    spans: list[tuple[int, int]] = []
    opened: list[int] = []
    place = 0
    for part in _MARK.split(text):
        if part == OPEN:
            opened.append(place)
        elif part == CLOSE:
            if opened:
                spans.append((opened.pop(), place))
        else:
            clean.append(part)
            place += len(part)
    return RenderedText(text="".join(clean), generated=sorted(spans))


def _line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return message[:200] or type(error).__name__
