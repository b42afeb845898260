"""`ownlm doctor`: what this machine can do, and what is missing."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from ownlm.cli.findings import Finding

_NAME_COLUMNS = 13


def doctor(
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    clear_cache: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Look at this machine; a line with ! is something missing, what it is for and how to get it.

    Example: ownlm doctor

    Parameters
    ----------
    json
        One JSON object, for programs.
    clear_cache
        Empty the cache, which holds only what can be fetched or computed again, and end.
    """
    if clear_cache:
        from ownlm.artefact import cache

        freed = cache.clear_cache()
        sys.stdout.write(f"{freed / 1e6:.0f} MB freed in {cache.cache_folder()}\n")
        return 0
    from ownlm.cli.findings import findings

    found = findings()
    if json:
        from json import dumps

        rows = {finding.name: {**finding.facts, "missing": finding.missing or None} for finding in found}
        sys.stdout.write(dumps(rows, ensure_ascii=False) + "\n")
        return 0
    sys.stdout.write("".join(_lines(finding) for finding in found))
    return 0


def _lines(finding: "Finding") -> str:
    from ownlm.cli.screen_text import safe_text
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text

    columns = terminal_columns(sys.stdout) or 80
    texts = [finding.says, *([f"! {finding.missing}"] if finding.missing else [])]
    wrapped = wrap_text(safe_text("\n".join(texts)), columns - _NAME_COLUMNS).split("\n")
    names = [finding.name.ljust(_NAME_COLUMNS), *[" " * _NAME_COLUMNS] * (len(wrapped) - 1)]
    return "".join(f"{name}{line}\n" for name, line in zip(names, wrapped, strict=True))
