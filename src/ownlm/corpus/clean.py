"""Cleaning: what a text file carries that is not text.

In:  bytes or a string as they were stored. Out: a string with \\n line ends and no control characters, or None
for what is no text. Lines are never joined or removed: line numbers keep pointing into the original file.
"""

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_BINARY_SAMPLE = 65_536


def clean_text(text: str) -> str:
    """Line ends as \\n, byte-order marks and control characters (NUL, form feed ...) removed, tabs kept."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Half a surrogate pair can stand in JSON, but not in UTF-8.
    text = _SURROGATES.sub("\ufffd", text)
    return _CONTROLS.sub("", text)


def decode_text(data: bytes) -> str | None:
    """UTF-8 text, or None when it is something else. A character cut off by a size limit is forgiven."""
    sample = data[:_BINARY_SAMPLE]
    controls = len(sample) - len(sample.translate(None, bytes([*range(9), 11, *range(14, 32), 127])))
    if controls * 200 > len(sample):
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: error.start].decode("utf-8")
        return None
