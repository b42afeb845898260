"""A quotation is only what stands in its passage word for word: found there, or dropped.

Both sides are compared with their white space as one blank, typographic quotes and dashes as plain ones. What is shown
is the passage's own text.
"""

_PLAIN = {
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("‘’‚‛‹›′", "'"),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    "\u00ad": "",
}


def find_quotation(quotation: str, text: str) -> tuple[int, int] | None:
    """Where it stands in `text` as (start, end), or None."""
    wanted, _ = _normal(quotation)
    normal, origins = _normal(text)
    wanted = wanted.strip()
    at = normal.find(wanted) if wanted else -1
    while at >= 0:
        end = at + len(wanted)
        # "he said" is not what "she said" says.
        if not (_in_a_word(normal, at) or _in_a_word(normal, end)):
            return origins[at], origins[end - 1] + 1
        at = normal.find(wanted, at + 1)
    return None


def _in_a_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()


def _normal(text: str) -> tuple[str, list[int]]:
    """The text to compare, and for each of its characters the one of `text` that it comes from."""
    letters: list[str] = []
    origins: list[int] = []
    for place, letter in enumerate(text):
        letter = " " if letter.isspace() else _PLAIN.get(letter, letter)
        if not letter or (letter == " " and letters and letters[-1] == " "):
            continue
        letters.append(letter)
        origins.append(place)
    return "".join(letters), origins
