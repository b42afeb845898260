"""Short expressions and what they give, computed by the Python that runs: the truth is certain.

In:  a random generator. Out: an expression of one of the families of expression_families.py, its value as repr()
     shows it, and a question about it; an exam set whose expressions are never trained.

Two expressions are the same when ast.unparse gives the same text: quotes and spaces do not count. 3 + 4 and 4 + 3
are two, as they are for a reader who has not yet learnt that addition commutes.

One expression in eight is held out, and its own text decides which: so no list need pass from the exam to the many
places that train on expressions, and no run can train on what another run asks.
"""

import ast
import hashlib
import random
from collections.abc import Collection
from dataclasses import dataclass

from ownlm.corpus.conversations.expression_families import FAMILIES
from ownlm.corpus.conversations.turns import Exchange

# The expression and little else: short, so that most of a row is expressions and answers.
_BARE = ("{x}", "{x}", "{x}?", "{x} =")
_BARE_SHARE = 0.4
TRAINED = (
    *_BARE,
    "What is {x}?",
    "What is {x}?",
    "What is {x}?",
    "What does {x} give?",
    "What does {x} return?",
    "What does {x} evaluate to?",
    "What would {x} print?",
    "What is the value of {x}?",
    "What is the result of {x}?",
    "What happens when I type {x}?",
    "Evaluate {x}",
    "Compute {x}",
    "Calculate {x}",
    "what's {x}",
    "Tell me {x}",
    "How much is {x}?",
    "What do I get from {x}?",
    "Please compute {x}",
    "Can you compute {x}?",
    "Could you calculate {x}?",
    "Result of {x}?",
    "In Python, what is {x}?",
    "I need the value of {x}.",
    "I tried {x}, what came back?",
    "Next one: {x}",
    "Try {x}",
    "Now {x}",
    "Give me {x}, please.",
    "{x} gives what?",
)
IN_SCOPE = (
    "I typed {x}. What comes out?",
    "Can you work out {x} for me?",
    "What would Python say to {x}?",
    "Let us see: {x}",
    "Do you know what {x} is?",
    "And what about {x}?",
    "Show me what {x} evaluates to.",
    "What value does Python print for {x}?",
)


_HELD_OUT_ONE_IN = 8


@dataclass(frozen=True, kw_only=True)
class Expression:
    family: str
    code: str
    value: str


def expression_key(code: str) -> str:
    """The same text for expressions that differ only in quotes, spaces and needless brackets.

    The families write their expressions so already (a test holds them to it), so their text is its own key.
    """
    return ast.unparse(ast.parse(code.strip(), mode="eval"))


def is_held_out(code: str) -> bool:
    """Whether an expression, written as expression_key writes it, belongs to exams alone."""
    return hashlib.sha256(code.encode()).digest()[0] < 256 // _HELD_OUT_ONE_IN


def draw_expression(rng: random.Random, family: str | None = None, *, held_out: bool = False) -> Expression:
    """A new expression to train on, or to ask in an exam; of a family drawn by weight unless one is named."""
    if family is None:
        family = rng.choices(list(FAMILIES), weights=[weight for weight, _ in FAMILIES.values()])[0]
    while is_held_out(code := FAMILIES[family][1](rng)) is not held_out:
        pass
    # Our own generator wrote `code`: what a user types is never evaluated so (evaluation/expression_check.py).
    return Expression(family=family, code=code, value=repr(eval(code)))


def exam_expressions(count: int, rng: random.Random, *, avoid: Collection[str] = ()) -> list[Expression]:
    """`count` different held-out expressions, the families taking turns, none whose text is in `avoid`."""
    held_out: dict[str, Expression] = {}
    families = list(FAMILIES)
    while len(held_out) < count:
        expression = draw_expression(rng, families[len(held_out) % len(families)], held_out=True)
        if expression.code not in avoid:
            held_out.setdefault(expression.code, expression)
    return list(held_out.values())


def _typed(code: str, rng: random.Random) -> str:
    """The expression with the quotes and backticks that people use."""
    if rng.random() < 0.3:
        code = code.replace("'", '"')
    return f"`{code}`" if rng.random() < 0.25 else code


def ask_expression(expression: Expression, wordings: tuple[str, ...], rng: random.Random) -> Exchange:
    """A question about `expression`; the answer is its value alone."""
    bare = wordings is TRAINED and rng.random() < _BARE_SHARE
    wording = rng.choice(_BARE if bare else wordings)
    if rng.random() < 0.25 and not wording.startswith("{"):
        wording = wording[0].lower() + wording[1:]
    if rng.random() < 0.2:
        wording = wording.rstrip("?.")
    question = wording.format(x=_typed(expression.code, rng))
    return Exchange(question=question, answer=expression.value, kind="expression")
