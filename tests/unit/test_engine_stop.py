"""Stop strings: the same as a plain search, also with 10,000 of them."""

import random
import time

import pytest

from ownlm.engine.stop import StopStrings


class Plain:
    """Looks for every string in the whole held text."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.stop, self.held = stop, ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        self.held += text
        hits = [(self.held.find(stop), stop) for stop in self.stop if stop in self.held]
        if hits:
            place, self.found = min(hits)
            return self.held[:place]
        ends = [self.held[place:] for place in range(len(self.held))]
        held = next((end for end in ends if any(stop.startswith(end) for stop in self.stop)), "")
        given, self.held = self.held[: len(self.held) - len(held)], held
        return given


@pytest.mark.parametrize("seed", range(300))
def test_as_a_plain_search(seed: int) -> None:
    random_ = random.Random(seed)
    letters = "ab" if seed % 2 else "abcé"
    stop = tuple("".join(random_.choices(letters, k=random_.randint(1, 6))) for _ in range(random_.randint(0, 8)))
    ours, plain = StopStrings(stop), Plain(stop)
    for _ in range(20):
        piece = "".join(random_.choices(letters, k=random_.randint(0, 4)))
        assert ours.push(piece) == plain.push(piece)
        assert ours.found == plain.found
        if ours.found is not None:
            assert ours.finish() == ""
            return
    assert ours.finish() == plain.held


def test_ten_thousand_strings_are_quick() -> None:
    stop = tuple(f"\nend of part {number:05d} of the whole text" for number in range(10_000))
    began = time.perf_counter()
    strings = StopStrings(stop)
    given = "".join(strings.push(piece) for piece in ["\nend", " of", " part", " 0", "99"] * 1000)
    assert given.startswith("\nend of part 099\nend of") and strings.found is None
    given = "".join(strings.push(piece) for piece in ["8", "\nend of part", " 05", "000 of the whole", " text"])
    assert given.endswith("8") and strings.found == stop[5000]
    assert time.perf_counter() - began < 2, "10,000 searches a token would take minutes"
