"""Looking into a corpus folder: what it holds, and how far general compressors get on its held-out text.

In:  a corpus folder. Out: tables for `ownlm corpus show`; bits per byte of uniform guessing, gzip and xz.
"""

import zlib
from pathlib import Path
from typing import Any

from ownlm.artefact import read_card
from ownlm.corpus.document import read_documents

# The slices that the headline figure is on; a package never seen is reported apart.
FIGURE_SLICES = ("prose", "code", "text")
_SAMPLES = 5
_SAMPLE_CHARACTERS = 200


def corpus_reference_lines(folder: Path) -> dict[str, float]:
    """Bits per byte of the held-out text, as one stream: what a model's figure has to be compared with.

    gzip looks back 32 kB and xz over the whole text; neither has seen the training text.
    """
    data = b"".join(
        document.text.encode()
        for document in read_documents(folder, split="validation")
        if document.slice in FIGURE_SLICES
    )
    assert data, "a corpus has held-out text"
    # Raw deflate, and the header and checksum that gzip puts around it.
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    gzip_bytes = len(deflate.compress(data)) + len(deflate.flush()) + 18
    lines = {"uniform": 8.0, "gzip": round(8 * gzip_bytes / len(data), 4)}
    try:
        import lzma  # a Python can be built without it
    except ImportError:
        return lines
    lines["xz"] = round(8 * len(lzma.compress(data, preset=9)) / len(data), 4)
    return lines


def show_corpus(folder: Path) -> dict[str, Any]:
    """Tables, each a list of rows: totals, the mixture, licences, what was left out, and beginnings of documents."""
    card = read_card(folder, kind="corpus")
    figures = card.figures
    licences: dict[str, int] = {}
    for row in figures["mixture"]:
        licences[row["licence"]] = licences.get(row["licence"], 0) + row["bytes"]
    return {
        "totals": [
            {"what": "content hash", "value": card.content},
            *(
                {"what": name.replace("_", " "), "value": figures[name]}
                for name in ("documents", "bytes", "training_bytes", "validation_bytes")
            ),
        ],
        "mixture": figures["mixture"],
        "licences": [
            {"licence": licence, "bytes": size}
            for licence, size in sorted(licences.items(), key=lambda entry: -entry[1])
        ],
        "left_out": [{"reason": reason, "count": count} for reason, count in figures["left_out"].items()],
        "samples": _samples(folder),
    }


def _samples(folder: Path) -> list[dict[str, str]]:
    """The first training documents: their order is by chance, so they are a fair sample."""
    rows = []
    for document in read_documents(folder, split="train"):
        rows.append(
            {
                "source": document.source,
                "path": document.path,
                "kind": document.kind,
                "beginning": document.text[:_SAMPLE_CHARACTERS],
            }
        )
        if len(rows) == _SAMPLES:
            break
    return rows
