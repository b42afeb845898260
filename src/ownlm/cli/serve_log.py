"""`ownlm serve verify-log`: is the log of a policy's decisions what was written?"""

import sys
from pathlib import Path

from ownlm.cli.serve import DATA


def verify_log(*, data: Path = DATA, head: str | None = None) -> int:
    """Walk the log of decisions, each line bound to the one before it by its hash. Exit code 1 where it breaks.

    Example: ownlm serve verify-log --data runs/server --head 5f1c...

    Lines that were cut off at the end, or a log that was written anew as a whole, are seen only against a hash that
    somebody noted elsewhere: note the last one that this command prints.

    Parameters
    ----------
    data
        The server's --data folder.
    head
        A hash that was noted earlier; one of the log's decisions must have it.
    """
    from ownlm.server.guard.log import NAME
    from ownlm.server.guard.verify import verify

    found = verify(data / NAME, None if head is None else head.strip().lower())
    if found.broken is not None:
        sys.stdout.write(
            f"{data / NAME}, line {found.line}: {found.broken}. {found.decisions:,} before it are whole.\n"
        )
        return 1
    if found.decisions:
        sys.stdout.write(
            f"{found.decisions:,} decisions, unbroken from {found.first} to {found.last}, last hash {found.hash}\n"
        )
    else:
        sys.stdout.write("0 decisions\n")
    if found.torn:
        sys.stdout.write("Behind them stands a part of a line: it is being written, or a kill cut it.\n")
    if head is None:
        sys.stdout.write("That nothing was cut off at the end is seen only with --head and a hash noted earlier.\n")
        return 0
    if found.head_at is None:
        sys.stdout.write("No decision has the hash that was noted: the log was cut or written anew.\n")
        return 1
    sys.stdout.write(f"The hash that was noted is that of decision {found.head_at:,}.\n")
    return 0
