"""What a tokenizer does to a text: how many bytes a token holds, and where the cuts fall.

In:  a tokenizer and texts.
Out: bytes per token for each kind of text, and a text's pieces for display.

More bytes per token means that the model reads more text in as many steps. A tokenizer is best at what it was trained
on; the other rows of the table show the price that other text pays.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ownlm.tokenizer.tokenizer import Tokenizer

# A few sentences of each kind, to compare tokenizers on text that none of them was trained on.
SAMPLES: dict[str, str] = {
    "prose": (
        "The ferry left at dawn with eleven passengers and a piano. Nobody had paid for the piano. It stood in the "
        "rain under a blue cloth, and whenever a wave struck the hull, one low note answered. The captain said that "
        "he had carried stranger things: a bell, a beehive, once a whole orchard in pots.\n"
    ),
    "code": (
        "def longest_run(values):\n    best = current = 0\n    previous = None\n    for value in values:\n"
        "        current = current + 1 if value == previous else 1\n        best = max(best, current)\n"
        "        previous = value\n    return best\n"
    ),
    "numbers": "1984, 3.14159, -273.15, 6.02e23, 0x1F4A9, 2024-02-29T23:59:59Z, +44 20 7946 0958, 1/3, 99.9 %\n",
    "german": (
        "Am Morgen legte die Fähre mit elf Fahrgästen und einem Klavier ab. Für das Klavier hatte niemand bezahlt; "
        "es stand im Regen unter einem blauen Tuch.\n"
    ),
    "russian": "На рассвете паром отчалил с одиннадцатью пассажирами и пианино, за которое никто не заплатил.\n",
    "hindi": "सुबह नाव ग्यारह यात्रियों और एक पियानो के साथ रवाना हुई, जिसका किराया किसी ने नहीं दिया था।\n",
    "chinese": "黎明时分,渡船载着十一名乘客和一架钢琴出发了。没有人为那架钢琴付过船费。\n",
    "emoji": "🎹🌊⛴️ 👩‍👧‍👦 ☔ 🐝🐝🐝 🏝️\n",
}


@dataclass(frozen=True, kw_only=True)
class Compression:
    """How far a tokenizer shortens a text."""

    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One token of a text; `text` is for display: bytes that make no whole character are written as \\xNN."""

    id: int
    text: str


def compression(tokenizer: Tokenizer, texts: Mapping[str, str | Iterable[str]] = SAMPLES) -> dict[str, Compression]:
    """Bytes and tokens for each kind of text; the kinds are the caller's names."""
    table = {}
    for kind, text in texts.items():
        documents = [text] if isinstance(text, str) else list(text)
        tokens = sum(len(ids) for ids in tokenizer.encode_batch(documents))
        table[kind] = Compression(bytes=sum(len(_utf8(document)) for document in documents), tokens=tokens)
    return table


def cut(tokenizer: Tokenizer, text: str) -> list[Piece]:
    """The tokens of a text in order, as a person can read them."""
    return [
        Piece(id=id, text=tokenizer.token_bytes(id).decode("utf-8", "backslashreplace"))
        for id in tokenizer.encode(text)
    ]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
