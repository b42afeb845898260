"""An HTML page: its main text without navigation, headings naming the places.

In:  the bytes of a page. Out: a Reading. Source of the rules for what is main text: resiliparse's extraction.
"""

import codecs
import re

from ownlm.corpus.clean import clean_text
from ownlm.corpus.readers.markdown_text import MOST_NAME
from ownlm.corpus.readers.reading import Places, Reading

_HEADINGS = "h1, h2, h3, h4, h5, h6"
# Marks behind a heading that only link to it.
_PERMALINKS = [".headerlink", ".anchorjs-link", ".mw-editsection"]
# With less than this share of all its text, the main text was missed.
_LEAST_SHARE = 0.1
_BLANKS = re.compile(r"\s+")


def read_html(data: bytes) -> Reading:
    text, places, _ = page_text(data, main_content=True)
    return Reading(text=text, format="html", places=places)


def page_text(data: bytes, *, main_content: bool) -> tuple[str, Places, str]:
    """The text, its headings by place, and the page's title."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(_decoded(data))
    if tree.body is None:
        return "", (), ""
    everything = extract_plain_text(tree, preserve_formatting=True, skip_elements=_PERMALINKS)
    text = everything
    if main_content:
        main = extract_plain_text(tree, preserve_formatting=True, main_content=True, skip_elements=_PERMALINKS)
        text = main if len(main) >= _LEAST_SHARE * len(everything) else everything
    text = clean_text(text).strip()
    found = (heading.text or "" for heading in tree.body.query_selector_all(_HEADINGS))
    headings = [name for heading in found if (name := _BLANKS.sub(" ", heading).strip(" ¶#"))]
    return text, _places(text, headings), (tree.title or "").strip()


def _places(text: str, headings: list[str]) -> Places:
    """Each heading at the line of the text that is it, looked for behind the one before."""
    lines: dict[str, list[int]] = {}
    offset = 0
    for line in text.split("\n"):
        lines.setdefault(_BLANKS.sub(" ", line).strip(" ¶#"), []).append(offset)
        offset += len(line) + 1
    places: list[tuple[int, str]] = []
    behind = -1
    for heading in headings:
        found = next((start for start in lines.get(heading, ()) if start > behind), None)
        if found is not None:
            places.append((found, heading[:MOST_NAME]))
            behind = found
    return tuple(places)


def _decoded(data: bytes) -> str:
    """UTF-8 where it is that, else what the page says it is, else what it looks like."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return bytes_to_str(data, detect_encoding(data, from_html_meta=True) or "utf-8")
