"""GGUF headers: right ones read as they are, wrong ones refused in one line, quickly and without memory."""

import subprocess
import sys
import time
from pathlib import Path
from struct import pack

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_bytes import ARRAY, BOOL, F32, I32, STRING, U32, U64, file, key, small, tensor, text
from ownlm.artefact.gguf_header import GgufFile, read_gguf
from ownlm.artefact.gguf_types import KINDS, SCALARS
from ownlm.errors import DamagedError, OwnlmError


@pytest.fixture
def opened(tmp_path: Path):  # type: ignore[no-untyped-def]
    def read(content: bytes) -> GgufFile:
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
        return read_gguf(path)

    return read


def test_the_tables_are_the_packages() -> None:
    sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (kind.name, kind.block, kind.bytes) for number, kind in KINDS.items()} == sizes
    values = set(gguf.GGUFValueType) - {gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY}
    assert SCALARS.keys() == {int(value) for value in values}
    sizes_of_values = {"8": 1, "16": 2, "32": 4, "64": 8}
    for value in values - {gguf.GGUFValueType.BOOL}:
        assert SCALARS[value][1] == sizes_of_values[value.name.strip("UINTFLOA")], value


def test_a_right_file(opened) -> None:  # type: ignore[no-untyped-def]
    found = opened(small())
    assert dict(found.metadata) == {
        "general.architecture": "llama",
        "a.flag": True,
        "a.count": 7,
        "a.large": 1 << 63,
        "a.number": 0.5,
        "a.words": ["one", "", "zwölf 😀"],
        "a.numbers": [1, -2, 3],
        "a.flags": [True, False],
    }
    first, second = found.tensors.values()
    assert (first.name, first.shape, first.kind.name, first.size) == ("first", (2, 32), "Q8_0", 68)
    assert (second.name, second.shape, second.kind.name, second.size) == ("second", (5,), "F32", 20)
    assert bytes(found.stored(first)) == bytes(range(68))
    assert bytes(found.stored(second)) == b"\0\0\x80\x3f" * 5
    assert opened(small().replace(pack("<I", 3), pack("<I", 2), 1)).version == 2


def test_it_imports_neither_torch_nor_numpy() -> None:
    code = "import sys; import ownlm.artefact.gguf_header; assert not {'torch', 'numpy', 'gguf'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


HUGE = 1 << 63
ALIGNED = key("general.alignment", U32, 64)
WRONG = {
    "empty": (b"", "is empty"),
    "no magic": (b"PK\3\4" + bytes(60), r"no GGUF file: it begins with b'PK"),
    "cut in the magic": (b"GG", "no GGUF file"),
    "cut in the counts": (small()[:20], "ends at 20"),
    "version 1": (file(version=1), "version 1; ownlm reads versions 2 and 3"),
    "version 4": (file(version=4), "version 4"),
    "big-endian": (b"GGUF" + pack(">I", 3) + bytes(16), "big-endian"),
    "a million keys": (file(counts=(0, 1_000_000)), "claims 0 tensors and 1000000 keys"),
    "2^63 tensors": (file(counts=(HUGE, 0)), "claims 9223372036854775808 tensors"),
    "keys that are not there": (file(counts=(0, 5), alignment=1), "name of key 1 of 5"),
    "a key of 2^63": (file(keys=[pack("<Q", HUGE)], counts=(0, 1)), "claims 9223372036854775808 bytes"),
    "a key without a name": (file(keys=[key("", U32, 1)]), "has no name"),
    "a key twice": (file(keys=[key("a", U32, 1)] * 2), "key 'a' stands in it twice"),
    "a key that is not UTF-8": (file(keys=[key(b"\xff\xfe", U32, 1)]), "not UTF-8"),
    "a value that is not UTF-8": (file(keys=[key("a", STRING, b"\xc3(")]), "'a' at .* is not UTF-8"),
    "a word that is not UTF-8": (file(keys=[key("a", ARRAY, (STRING, ["x", b"\xff"]))]), "'a' at .* is not UTF-8"),
    "a string of 2^63": (file(keys=[text("a") + pack("<IQ", STRING, HUGE)]), "more than 1048576"),
    "a string past the end": (file(keys=[text("a") + pack("<IQ", STRING, 999)]), "'a' needs 999 bytes"),
    "a list of 2^63": (file(keys=[text("a") + pack("<IIQ", ARRAY, U32, HUGE)]), "claims a list of 9223372036854775808"),
    "a list past the end": (file(keys=[text("a") + pack("<IIQ", ARRAY, F32, 500)]), "'a' needs 2000 bytes"),
    "words past the end": (file(keys=[text("a") + pack("<IIQ", ARRAY, STRING, 500)]), "'a' needs 8 bytes"),
    "a word past the end": (file(keys=[text("a") + pack("<IIQQ", ARRAY, STRING, 2, 700)]), "'a' needs 700 bytes"),
    "a word of 2^63": (file(keys=[text("a") + pack("<IIQQ", ARRAY, STRING, 2, HUGE)]), "more than 1048576"),
    "lists in a list": (file(keys=[key("a", ARRAY, (ARRAY, [(U32, [1])]))]), "list of lists"),
    "an unknown type": (file(keys=[text("a") + pack("<II", 13, 0)]), "unknown type 13"),
    "a list of an unknown type": (file(keys=[text("a") + pack("<IIQ", ARRAY, 99, 1)]), "unknown type 99"),
    "half true": (file(keys=[text("a") + pack("<IB", BOOL, 2)]), "neither true nor false"),
    "alignment 0": (file(keys=[key("general.alignment", U32, 0)]), "'general.alignment' is 0"),
    "alignment 3": (file(keys=[key("general.alignment", U32, 3)]), "no power of two"),
    "alignment 2^31": (file(keys=[key("general.alignment", U32, 1 << 31)]), "no power of two"),
    "alignment of words": (file(keys=[key("general.alignment", STRING, "x")]), "'general.alignment' is str"),
    "a tensor twice": (file(tensors=[tensor("t", (1,), 0, 0)] * 2, data=bytes(64)), "tensor 't' stands in it twice"),
    "a long name": (file(tensors=[tensor("t" * 65, (1,), 0, 0)]), "claims 65 bytes, more than 64"),
    "no dimensions": (file(tensors=[tensor("t", (), 0, 0)]), "has 0 dimensions"),
    "five dimensions": (file(tensors=[tensor("t", (1,) * 5, 0, 0)]), "has 5 dimensions"),
    "2^32 dimensions": (file(tensors=[text("t") + pack("<I", 0xFFFFFFFF)]), "has 4294967295 dimensions"),
    "no elements": (file(tensors=[tensor("t", (4, 0), 0, 0)]), r"shape \[0, 4\]"),
    "a type of ours": (file(tensors=[tensor("t", (1,), 77, 0)]), "type 77"),
    "a type that was removed": (file(tensors=[tensor("t", (32,), 4, 0)]), "type 4"),
    "half a block": (file(tensors=[tensor("t", (33,), 8, 0)], data=bytes(99)), "which Q8_0 cannot hold"),
    "an odd offset": (file(tensors=[tensor("t", (1,), 0, 4)], data=bytes(99)), "no multiple of 32"),
    "an offset of another alignment": (
        file(keys=[ALIGNED], tensors=[tensor("t", (1,), 0, 32)], data=bytes(99), alignment=64),
        "no multiple of 64",
    ),
    "past the end": (file(tensors=[tensor("t", (9,), 0, 0)], data=bytes(35)), "'t' ends at .*, and the file at"),
    "an offset of 2^63": (file(tensors=[tensor("t", (9,), 0, HUGE)], data=bytes(35)), "'t' ends at 92233720368547"),
    "a terabyte": (file(tensors=[tensor("t", (1 << 20, 1 << 18), 0, 0)], data=bytes(99)), "'t' ends at 1099511627"),
    "2^252 elements": (file(tensors=[tensor("t", (HUGE,) * 4, 0, 0)]), "'t' ends at"),
    "over one another": (
        file(tensors=[tensor("t", (9,), 0, 0), tensor("u", (9,), 0, 32)], data=bytes(99)),
        "'t' and 'u' lie over one another",
    ),
    "the same place": (
        file(tensors=[tensor("t", (8,), 0, 0), tensor("u", (8,), 0, 0)], data=bytes(99)),
        "lie over one another",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_in_a_line(opened, case: str) -> None:  # type: ignore[no-untyped-def]
    content, words = WRONG[case]
    with pytest.raises(DamagedError, match=words) as refused:
        opened(content)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_what_is_no_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(OwnlmError, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(OwnlmError, match="cannot read"):
        read_gguf(tmp_path)


def _many(count: int, entry: bytes) -> bytes:
    return text("a") + pack("<IIQ", ARRAY, STRING, count) + entry * count


LARGE = {
    "a million keys that are there": file(keys=[key(f"{number:07}", U32, 1) for number in range(1_000_000)]),
    "the most keys": file(keys=[key(f"{number:06}", U32, 1) for number in range(1 << 16)], counts=(1, 1 << 16)),
    "the most words": file(keys=[_many(1_500_000, text("ab"))], counts=(9, 1)),
    "too many words": file(keys=[_many(3_000_000, text("ab")), *[key("b", U32, 1)] * 9]),
    "a header of wide characters": file(
        keys=[key(str(number), STRING, "😀" + "a" * ((1 << 20) - 4)) for number in range(60)]
    ),
    "the most numbers": file(keys=[key("a", ARRAY, (I32, [1 << 30] * 1_500_000))], counts=(9, 1)),
    "sixty thousand tensors": file(tensors=[tensor(f"{n}", (8,), 0, 32 * n) for n in range(60_000)], data=bytes(9)),
}


MEASURE = """
import sys, time
from pathlib import Path
from ownlm.artefact.gguf_header import read_gguf
from ownlm.errors import DamagedError

def peak():
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

before, began = peak(), time.process_time()
try:
    read_gguf(Path(sys.argv[1]))
except DamagedError as refused:
    print(time.process_time() - began, peak() - before)
"""


@pytest.mark.parametrize("case", LARGE)
def test_large_wrong_files_cost_little(tmp_path: Path, case: str) -> None:
    """Measured in a process of its own, beyond what Python itself takes."""
    path = tmp_path / "x.gguf"
    path.write_bytes(LARGE[case])
    run = subprocess.run([sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True)
    seconds, kibibytes = map(float, run.stdout.split())
    # A second is what is promised; half as much again for a machine that is shared.
    assert seconds < 1.5 and kibibytes < 200e6 / 1024, (seconds, kibibytes)


def _outcome(path: Path, content: bytes) -> None:
    """Read, or refused in a line, at once."""
    path.write_bytes(content)
    began = time.process_time()
    try:
        found = read_gguf(path)
        for one in found.tensors.values():
            assert len(found.stored(one)) == one.size
    except DamagedError as refused:
        assert "\n" not in str(refused)
    assert time.process_time() - began < 1


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_flipped_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(small())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    _outcome(tmp_path_factory.getbasetemp() / "flipped.gguf", bytes(content))


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, len(small())), tail=st.binary(max_size=40))
def test_cut_files(tmp_path_factory: pytest.TempPathFactory, length: int, tail: bytes) -> None:
    _outcome(tmp_path_factory.getbasetemp() / "cut.gguf", small()[:length] + tail)


NUMBERS = st.sampled_from([0, 1, 2, 31, 32, 33, 255, 65535, 1 << 16, 1 << 20, 1 << 31, (1 << 32) - 1])
LENGTHS = NUMBERS | st.sampled_from([1 << 40, HUGE, HUGE - 1, (1 << 64) - 1])


@settings(max_examples=400, deadline=None)
@given(
    keys=st.lists(st.tuples(st.binary(max_size=6), NUMBERS, LENGTHS, st.binary(max_size=20)), max_size=4),
    tensors=st.lists(st.tuples(st.text(max_size=4), st.lists(LENGTHS, max_size=5), NUMBERS, LENGTHS), max_size=4),
    counts=st.none() | st.tuples(LENGTHS, LENGTHS),
    tail=st.binary(max_size=200),
)
def test_invented_headers(tmp_path_factory, keys, tensors, counts, tail) -> None:  # type: ignore[no-untyped-def]
    content = file(
        keys=[text(name) + pack("<IQ", kind, length) + rest for name, kind, length, rest in keys],
        tensors=[tensor(name, tuple(shape), kind, offset) for name, shape, kind, offset in tensors],
        counts=counts,
        data=tail,
    )
    _outcome(tmp_path_factory.getbasetemp() / "invented.gguf", content)


def test_u64_keys_are_read_whole(opened) -> None:  # type: ignore[no-untyped-def]
    assert opened(file(keys=[key("a", U64, (1 << 64) - 1)])).metadata["a"] == (1 << 64) - 1
