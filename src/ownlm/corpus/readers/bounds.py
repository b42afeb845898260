"""What a packed file may grow to: bounds that no real document meets, checked before anything is unpacked."""

import io
import zipfile

from ownlm.corpus.readers.reading import UnreadableError

MOST_FILE_BYTES = 256 * 2**20
_MOST_MEMBERS = 20_000
_MOST_UNPACKED = 1 << 29
_MOST_MEMBER = 1 << 28
# Text in XML packs to a tenth or a thirtieth; bombs to a thousandth. Small ones do no harm.
_MOST_RATIO = 200
_SMALL = 16 * 2**20


def open_zip(data: bytes) -> zipfile.ZipFile:
    """The archive, once what it says of its members is bearable; zipfile reads no more than a member says."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise UnreadableError("damaged") from None
    unpacked = sum(member.file_size for member in members)
    ratio = unpacked / max(len(data), 1)
    if len(members) > _MOST_MEMBERS or unpacked > _MOST_UNPACKED or (unpacked > _SMALL and ratio > _MOST_RATIO):
        raise UnreadableError("too large")
    if any(member.file_size > _MOST_MEMBER for member in members):
        raise UnreadableError("too large")
    if any(member.flag_bits & 1 for member in members):
        raise UnreadableError("encrypted")
    return archive
