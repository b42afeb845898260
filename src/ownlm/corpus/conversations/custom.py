"""The user's own conversations and documents: files in any of the usual forms into lines of ours.

    files.py ──▶ a line's JSON ──▶ forms.py ──▶ check.py ──▶ kept, mended, or left out and named (problems.py)

Nothing is dropped in silence: what was read is either here or in the problems.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ownlm.artefact import file_sha256
from ownlm.corpus.conversations.check import VERY_LONG_CHARACTERS, checked, wording
from ownlm.corpus.conversations.files import chat_files, read_rows
from ownlm.corpus.conversations.forms import read_form
from ownlm.corpus.conversations.problems import BadLineError, Problems
from ownlm.corpus.dedup import text_fingerprint
from ownlm.errors import OwnlmError


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The lines that can be used, in their order; of each where it stands, and its value of --group or None.

    `content` is a hash of the files read.
    """

    lines: list[dict[str, Any]]
    places: list[str]
    groups: list[str | None]
    problems: Problems
    content: str


def read_chat(path: Path, *, strict: bool = False, group: str | None = None) -> Chat:
    """Every usable line of the file or folder; OwnlmError where too few are, or with `strict` at the first bad one."""
    problems = Problems(strict=strict)
    lines: list[dict[str, Any]] = []
    places: list[str] = []
    groups: list[str | None] = []
    said: dict[str, bytes] = {}
    hashes: list[str] = []
    for file in chat_files(path, problems):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        for _, number, entry in read_rows(file, name, problems):
            try:
                line, mended = checked(read_form(entry))
            except BadLineError as error:
                problems.add(name, number, error.kind, error.why)
                continue
            if mended:
                problems.add(name, number, "ends without an answer", mended, "mended")
            words = wording(line)
            if len(words) > VERY_LONG_CHARACTERS:
                problems.add(name, number, "very long", f"has {len(words):,} characters", "kept")
            if isinstance(named := entry.get("id"), str | int):
                print_ = text_fingerprint(words)
                if said.setdefault(str(named), print_) != print_:
                    problems.add(name, number, "id used twice", f"has the id {named!r:.60} of another line", "kept")
            lines.append(line)
            places.append(f"{name}:{number}")
            groups.append(_group_of(entry, group))
        hashes.append(f"{name} {file_sha256(file)}")
    problems.refuse_too_many()
    if len(lines) < 2:
        raise OwnlmError(f"{path} holds {len(lines)} conversations; give at least two, better hundreds")
    if group is not None and not any(groups):
        raise OwnlmError(f"no line of {path} has the field {group!r} with a text or a number; check --group")
    content = hashes[0].split()[-1] if path.is_file() else sha256("\n".join(hashes).encode()).hexdigest()
    return Chat(lines=lines, places=places, groups=groups, problems=problems, content=content)


def _group_of(entry: Mapping[str, Any], group: str | None) -> str | None:
    value = entry.get(group) if group is not None else None
    return str(value) if isinstance(value, str | int | float) and value != "" else None
