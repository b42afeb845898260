"""The user's own text: the documents of a folder, in any format that readers/ knows.

In:  a folder (or one file) and how many megabytes to keep.
Out: a sample of whole documents, drawn by name, and how many were left out, by reason.

Files are read one after another, and only the sample is kept: a folder larger than memory is no trouble.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ownlm.corpus.clean import clean_text
from ownlm.corpus.document import Document
from ownlm.corpus.readers import FolderReader, files_below
from ownlm.corpus.readers.folder import READABLE
from ownlm.corpus.split import fraction, split_into_parts
from ownlm.errors import OwnlmError

# With fewer documents than this, they are cut into parts: a whole one held out would be most of the text.
FEWEST_DOCUMENTS = 20
_PARTS_WANTED = 100
_PART_CHARACTERS = (2_000, 64_000)


def gather_folder(
    location: Path, *, most_bytes: int, seed: int, dropped: Counter[str], report: Callable[[str], None]
) -> list[Document]:
    """The documents below `location`, at most about `most_bytes` of them; long ones in parts if they are few."""
    if not location.exists():
        raise OwnlmError(f"no such folder: {location}; check the spelling of --text")
    files = [location] if location.is_file() else files_below(location)
    if not files:
        raise OwnlmError(f"{location} has no text to learn from; put {READABLE} into it")
    root = location.parent if location.is_file() else location
    with FolderReader(root, most_bytes=most_bytes) as reader:
        stream = (document for file in files for document in reader.documents(file))
        documents, seen = sample_documents(stream, most_bytes=most_bytes, seed=seed, dropped=dropped)
    dropped.update(reader.counts)
    dropped.update(reader.left_out.counts())
    for line in reader.left_out.lines():
        report(line)
    # Cleaned only now: most of a large folder is not in the sample.
    documents = [replace(document, text=clean_text(document.text)) for document in documents]
    if not documents:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        raise OwnlmError(f"{location} has no text to learn from ({reasons}); put {READABLE} into it")
    if len(documents) < seen:
        report(f"{len(documents):,} of {seen:,} documents are kept, a fair sample of {most_bytes / 1e6:.0f} MB")
    return in_parts(documents, report)


def sample_documents(
    stream: Iterable[Document], *, most_bytes: int, seed: int, dropped: Counter[str]
) -> tuple[list[Document], int]:
    """The documents with the smallest keys that fit, whatever order they come in, and how many there were.

    The largest key leaves first when there is too much, so that memory holds the sample and one document more.
    """
    kept: list[tuple[float, int, Document]] = []
    total = seen = 0
    for seen, document in enumerate(stream, start=1):
        heapq.heappush(kept, (-fraction(seed, "sample", document.name), seen, document))
        total += document.size
        while total > most_bytes and len(kept) > 1:
            total -= heapq.heappop(kept)[2].size
            dropped["over the size asked for"] += 1
    return [document for _, _, document in sorted(kept, key=lambda entry: (-entry[0], entry[1]))], seen


def in_parts(documents: list[Document], report: Callable[[str], None]) -> list[Document]:
    """Few documents are cut into parts at blank lines, whole parts of which can then be held out."""
    if len(documents) >= FEWEST_DOCUMENTS:
        return documents
    total = sum(len(document.text) for document in documents)
    fewest, most = _PART_CHARACTERS
    part = min(max(total // _PARTS_WANTED, fewest), most)
    parts = [piece for document in documents for piece in split_into_parts(document, part)]
    if len(parts) > len(documents):
        count = "1 document is" if len(documents) == 1 else f"{len(documents)} documents are"
        report(f"{count} cut into {len(parts)} parts at blank lines, so that whole parts can be held out")
    return parts
