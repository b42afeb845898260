"""Licences: which packages' text may be learned from, as their own metadata say.

In:  a distribution's metadata. Out: its licence's name, and whether the allow-list has it.
"""

import re
from importlib.metadata import Distribution

PYTHON_LICENCE = "PSF-2.0"

# SPDX names, lower case: permissive licences, and MPL-2.0, whose terms bind copies of its files alone.
ALLOWED = frozenset(
    {
        "0bsd",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsl-1.0",
        "cc0-1.0",
        "cnri-python",
        "isc",
        "mit",
        "mit-0",
        "mpl-2.0",
        "psf-2.0",
        "python-2.0",
        "unlicense",
        "zlib",
    }
)

# What older metadata write instead of an SPDX name.
_SPELLINGS = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psf": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "zlib/libpng license": "Zlib",
}
_LONGEST_NAME = 120


def licence_of(distribution: Distribution) -> str:
    """The licence as an SPDX expression where it can be told, else "unknown"."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    # Some put the whole licence text into the field: its first line is the name.
    stated = str((metadata.get_all("License") or [""])[0]).strip().split("\n")[0].strip()
    if stated and len(stated) <= _LONGEST_NAME and stated.lower() != "unknown":
        return _SPELLINGS.get(stated.lower(), stated)
    names = [
        line.rsplit("::", 1)[-1].strip()
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    return " AND ".join(_SPELLINGS.get(name.lower(), name) for name in names) or "unknown"


def is_allowed(expression: str) -> bool:
    """Every licence that binds must be on the list; of alternatives (OR) one is enough.

    With parentheses in the expression every name in it must be allowed: strict, and simple.
    """
    if "(" in expression:
        expression = re.sub(r"[()]", " ", expression).replace(" OR ", " AND ")
    return any(
        all(_name_is_allowed(name) for name in re.split(r"\s+AND\s+", alternative.strip()))
        for alternative in re.split(r"\s+OR\s+", expression)
    )


def _name_is_allowed(name: str) -> bool:
    # An exception after WITH only ever grants more.
    return re.split(r"\s+WITH\s+", name.strip())[0].strip().lower() in ALLOWED
