"""Files of any origin: read whole, or refused in one line with what to do."""

import os
from pathlib import Path

import pytest

from ownlm.artefact import read_errors, read_json, read_text
from ownlm.errors import DamagedError, OwnlmError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": NaN}', "holds NaN, which is no finite number"),
        (b'{"a": [-Infinity]}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b"[1]", "holds no JSON object"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": "\xff"}', "is no UTF-8 text"),
        (b" " * 101, "has 101 bytes, and no such file has more than 100"),
    ],
)
def test_what_is_no_object(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{said}.*; copy it anew") as refused:
        read_json(path, fix="copy it anew", most=100 if "101" in said else 10**6)
    assert str(path) in str(refused.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    places = [tmp_path]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer for good
        places.append(tmp_path / "pipe")
    for path in places:
        with pytest.raises(DamagedError, match="is no file; copy it anew"):
            read_text(path, fix="copy it anew")
    with pytest.raises(OwnlmError, match=r"cannot read .*none: No such file.*; check the name and who may read it"):
        read_text(tmp_path / "none", fix="copy it anew")


def test_what_may_not_be_read() -> None:
    with pytest.raises(OwnlmError, match=r"cannot read inner: Permission denied; check"), read_errors(Path("outer")):
        raise PermissionError(13, "Permission denied", "inner")


def test_numbers_that_are_some(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1e-5, "b": 2, "c": 1e300}')
    assert read_json(tmp_path / "a.json", fix="") == {"a": 1e-5, "b": 2, "c": 1e300}
