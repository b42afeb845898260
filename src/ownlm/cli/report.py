"""`ownlm report`: write a run's report.html anew."""

import sys
from pathlib import Path


def report(run: Path) -> int:
    """Write RUN/report.html from what the run's folder records. Example: ownlm report runs/quickstart

    Parameters
    ----------
    run
        The folder of a quickstart.
    """
    from ownlm.report import write_report

    sys.stdout.write(f"{write_report(run)}\n")
    return 0
