"""A data set of a model hub, streamed: `--text hub:roneneldan/TinyStories`.

In:  a name, perhaps with a subset after a colon (hub:HuggingFaceFW/fineweb-edu:sample-10BT). Out: documents.
Only as much is fetched as is kept. Needs a network and the extra `hub`.
"""

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterator

from ownlm.corpus.clean import clean_text
from ownlm.corpus.document import Document
from ownlm.corpus.folder_text import in_parts
from ownlm.corpus.readers.folder import text_of
from ownlm.errors import OwnlmError

PREFIX = "hub:"


def gather_hub(text: str, *, most_bytes: int, dropped: Counter[str], report: Callable[[str], None]) -> list[Document]:
    """The first documents of the data set's training split, up to `most_bytes`."""
    name, _, subset = text.removeprefix(PREFIX).partition(":")
    if not name:
        raise OwnlmError("hub: needs a name; write for example --text hub:roneneldan/TinyStories")
    documents: list[Document] = []
    total = 0
    for document in _stream(name, subset or None, dropped):
        total += document.size
        documents.append(document)
        if total >= most_bytes:
            break
    if not documents:
        raise OwnlmError(f"{PREFIX}{name} gave no text; name another data set or subset")
    report(f"the first {len(documents):,} documents of {name} are kept, {total / 1e6:.1f} MB")
    return in_parts(documents, report)


def _stream(name: str, subset: str | None, dropped: Counter[str]) -> Iterator[Document]:
    # Read when the library is imported.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise OwnlmError(f"{PREFIX}{name} needs the package datasets; pip install 'ownlm[hub]'") from None
    try:
        for number, row in enumerate(datasets.load_dataset(name, subset, split="train", streaming=True), 1):
            text = clean_text(text_of(row, f"{PREFIX}{name}, row {number},"))
            if not text.strip():
                dropped["empty"] += 1
                continue
            yield Document(
                text=text,
                source=f"{PREFIX}{name}",
                path=f"{name}.jsonl",
                kind="text",
                licence="see the data set's card",
                lines=((0, number),),
            )
    except OwnlmError:
        raise
    except Exception as error:  # whatever a library of that size raises is the user's network or name
        reason = str(error).split("\n")[0] or type(error).__name__
        raise OwnlmError(f"cannot read {PREFIX}{name}: {reason}; check the name and the network") from error
