"""Families of short expressions, small enough to be learnt in minutes, wide enough that the rest must be understood.

In:  a random generator. Out: the text of an expression.

Ranges: sums and differences of 0 to 20 in three of five, else 0 to 99; products up to 12 x 12; lists of up to six
numbers, 0 to 9 or 0 to 99; strings are WORDS, common words of three to six letters, so that a model whose tokens
are whole words can still learn how each is spelt. Weights: what is hard for a tiny model (sums, letters of words,
positions) comes more often.
"""

import random
from collections.abc import Callable

WORDS = """
apple baby back ball bank bear bed bird blue boat body book box boy bread bus cake car cat city clock cloud
coat cold corn cow cup day desk dog door dress duck ear earth egg eye face farm fire fish five flag fly food
foot four fox frog game girl glass gold good grass green hair hand hat head hill home horse hot house ice king
kite lake lamp leaf leg lion list long map milk moon mouse name nest new nose ocean old one open pen pig queen
rain red ring river road rock room root rose salt sand sea seed shoe six sky snow sock song star sun tea ten
tiger time top town toy tree two water wind wolf wood word year yes zoo
""".split()  # noqa: SIM905 (a list of words reads best as words)
SHORT_WORDS = tuple(word for word in WORDS if len(word) <= 4)

Draw = Callable[[random.Random], str]


def _number(rng: random.Random) -> int:
    return rng.randint(0, 9) if rng.random() < 0.6 else rng.randint(0, 99)


def _numbers(rng: random.Random, least: int = 2, most: int = 5) -> list[int]:
    high = 9 if rng.random() < 0.6 else 99
    return [rng.randint(0, high) for _ in range(rng.randint(least, most))]


def _pair(rng: random.Random) -> tuple[int, int]:
    high = 20 if rng.random() < 0.6 else 99
    return rng.randint(0, high), rng.randint(0, high)


def _addition(rng: random.Random) -> str:
    first, second = _pair(rng)
    return f"{first} + {second}"


def _subtraction(rng: random.Random) -> str:
    first, second = _pair(rng)
    if rng.random() < 0.8:
        first, second = max(first, second), min(first, second)
    return f"{first} - {second}"


def _multiplication(rng: random.Random) -> str:
    return f"{rng.randint(0, 12)} * {rng.randint(0, 12)}"


def _remainder(rng: random.Random) -> str:
    return f"{rng.randint(0, 99)} % {rng.choice((2, 5, 10))}"


def _comparison(rng: random.Random) -> str:
    first, second = _pair(rng)
    if rng.random() < 0.2:
        second = first
    return f"{first} {rng.choice(('<', '>', '<=', '>=', '==', '!='))} {second}"


def _string_equality(rng: random.Random) -> str:
    first = rng.choice(WORDS)
    second = first if rng.random() < 0.5 else rng.choice(WORDS)
    return f"'{first}' {rng.choice(('==', '!='))} '{second}'"


def _both(rng: random.Random) -> str:
    return f"{_comparison(rng)} {rng.choice(('and', 'or'))} {rng.choice(('True', 'False'))}"


def _not(rng: random.Random) -> str:
    return f"not {_comparison(rng)}"


def _list_length(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"len({[rng.choice(WORDS) for _ in range(rng.randint(1, 5))]})"
    numbers = _numbers(rng, 0, 6)
    return f"len({numbers if rng.random() < 0.7 else tuple(numbers)})"


def _word_length(rng: random.Random) -> str:
    return f"len('{rng.choice(WORDS)}')"


def _extreme(rng: random.Random) -> str:
    numbers = _numbers(rng)
    inside = str(numbers) if rng.random() < 0.75 else ", ".join(map(str, numbers))
    return f"{rng.choice(('max', 'min'))}({inside})"


def _sum(rng: random.Random) -> str:
    return f"sum({[rng.randint(0, 9) for _ in range(rng.randint(1, 3))]})"


def _sorted(rng: random.Random) -> str:
    return f"sorted({_numbers(rng)})"


def _sorted_down(rng: random.Random) -> str:
    return f"sorted({_numbers(rng, 2, 4)}, reverse=True)"


def _item(rng: random.Random) -> str:
    items: list[int] | list[str] = _numbers(rng, 3, 5)
    if rng.random() < 0.3:
        items = [rng.choice(WORDS) for _ in items]
    return f"{items}[{rng.choice((0, 0, 1, 2, -1, -1))}]"


def _letter(rng: random.Random) -> str:
    return f"'{rng.choice(WORDS)}'[{rng.choice((0, 0, 1, 2, -1, -1))}]"


def _spelling(rng: random.Random) -> str:
    return f"list('{rng.choice(WORDS)}')"


def _backwards(rng: random.Random) -> str:
    return f"'{rng.choice(SHORT_WORDS)}'[::-1]"


def _case(rng: random.Random) -> str:
    word = rng.choice(WORDS)
    return rng.choice((f"'{word}'.upper()", f"'{word.upper()}'.lower()", f"'{word}'.capitalize()"))


def _starts(rng: random.Random) -> str:
    word = rng.choice(WORDS)
    method, letter = rng.choice((("startswith", word[0]), ("endswith", word[-1])))
    if rng.random() < 0.5:
        letter = rng.choice("abcdefghilmnoprstw")
    return f"'{word}'.{method}('{letter}')"


def _letter_inside(rng: random.Random) -> str:
    word = rng.choice(WORDS)
    letter = rng.choice(word) if rng.random() < 0.5 else rng.choice("abcdefghilmnoprstw")
    return f"'{letter}' in '{word}'"


def _inside(rng: random.Random) -> str:
    numbers = _numbers(rng, 2, 5)
    number = rng.choice(numbers) if rng.random() < 0.5 else _number(rng)
    return f"{number} {rng.choice(('in', 'in', 'not in'))} {numbers}"


def _repeat(rng: random.Random) -> str:
    return f"'{rng.choice(WORDS)}' * {rng.randint(1, 4)}"


def _joined_words(rng: random.Random) -> str:
    return " + ".join(f"'{rng.choice(WORDS)}'" for _ in range(rng.choice((2, 2, 3))))


def _joined_lists(rng: random.Random) -> str:
    return f"{_numbers(rng, 1, 3)} + {_numbers(rng, 1, 3)}"


def _repeated_list(rng: random.Random) -> str:
    return f"{_numbers(rng, 1, 2)} * {rng.randint(2, 3)}"


def _range(rng: random.Random) -> str:
    start = rng.randint(0, 20)
    return f"list(range({start}, {start + rng.randint(1, 6)}))"


def _absolute(rng: random.Random) -> str:
    return f"abs({rng.choice((-1, -1, 1)) * rng.randint(0, 99)})"


def _type_name(rng: random.Random) -> str:
    values = [str(_number(rng)), f"{_number(rng)}.5", f"'{rng.choice(WORDS)}'", str(_numbers(rng))]
    values += [str(tuple(_numbers(rng))), f"{{'{rng.choice(WORDS)}': {_number(rng)}}}", rng.choice(("True", "False"))]
    return f"type({rng.choice(values)}).__name__"


def _truth(rng: random.Random) -> str:
    values = ("0", "''", "[]", "()", "None", "{}") if rng.random() < 0.15 else ()
    return f"bool({rng.choice(values or (str(_number(rng)), repr(rng.choice(WORDS)), str(_numbers(rng, 1, 3))))})"


def _conversion(rng: random.Random) -> str:
    number = rng.randint(0, 999)
    return rng.choice((f"int('{number}')", f"str({number})", f"float({number})"))


def _count(rng: random.Random) -> str:
    low = rng.randint(0, 7)
    numbers = [rng.randint(low, low + 2) for _ in range(rng.randint(2, 5))]
    return f"{numbers}.count({rng.choice(numbers)})"


def _join(rng: random.Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(2, 3))]
    return f"'{rng.choice(('-', ' ', ', ', '+'))}'.join({words})"


def _split(rng: random.Random) -> str:
    return f"'{' '.join(rng.choice(WORDS) for _ in range(rng.randint(2, 3)))}'.split()"


def _lookup(rng: random.Random) -> str:
    entries = {word: _number(rng) for word in rng.sample(WORDS, rng.randint(1, 3))}
    return f"{entries}['{rng.choice(list(entries))}']"


def _any_all(rng: random.Random) -> str:
    return f"{rng.choice(('any', 'all'))}({[rng.random() < 0.6 for _ in range(rng.randint(2, 5))]})"


# name: (weight in training, how one is drawn)
FAMILIES: dict[str, tuple[float, Draw]] = {
    "addition": (4.0, _addition),
    "subtraction": (3.0, _subtraction),
    "multiplication": (1.5, _multiplication),
    "remainder": (1.0, _remainder),
    "comparison": (1.5, _comparison),
    "equality of strings": (0.7, _string_equality),
    "and, or": (0.8, _both),
    "not": (0.8, _not),
    "length of a list": (1.2, _list_length),
    "length of a word": (1.0, _word_length),
    "maximum, minimum": (1.5, _extreme),
    "sum": (1.5, _sum),
    "sorted": (2.0, _sorted),
    "sorted downwards": (1.2, _sorted_down),
    "item of a list": (2.0, _item),
    "letter of a word": (3.0, _letter),
    "spelling": (1.5, _spelling),
    "backwards": (1.5, _backwards),
    "upper, lower": (1.5, _case),
    "starts, ends with": (1.0, _starts),
    "letter in a word": (1.0, _letter_inside),
    "number in a list": (1.2, _inside),
    "repeated word": (0.7, _repeat),
    "joined words": (0.8, _joined_words),
    "joined lists": (0.8, _joined_lists),
    "repeated list": (0.6, _repeated_list),
    "range": (1.0, _range),
    "absolute value": (0.6, _absolute),
    "name of a type": (0.7, _type_name),
    "truth": (0.6, _truth),
    "conversion": (0.7, _conversion),
    "count": (1.0, _count),
    "join": (0.8, _join),
    "split": (0.6, _split),
    "item of a dict": (1.0, _lookup),
    "any, all": (0.8, _any_all),
}
