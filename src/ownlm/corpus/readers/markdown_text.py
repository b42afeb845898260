"""Markdown and other text: kept as it is written; headings name the places."""

import re

from ownlm.corpus.readers.reading import Places

_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$")
MOST_NAME = 120


def markdown_places(text: str) -> Places:
    """Headings (with #) outside of code blocks."""
    places, offset, fence = [], 0, ""
    for line in text.split("\n"):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        elif not fence and (heading := _HEADING.match(line)) and heading[1]:
            places.append((offset, heading[1][:MOST_NAME]))
        offset += len(line) + 1
    return tuple(places)
