"""tests/conftest.py: a skip that nobody announced fails the run, in one process and in several."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
AT_RUN = "import pytest\ndef test_one(): pass\ndef test_two(): pytest.skip({reason!r})\n"
AT_COLLECTION = "import pytest\npytest.skip({reason!r}, allow_module_level=True)\n"


@pytest.mark.parametrize(
    ("page", "reason", "processes", "status"),
    [
        (AT_RUN, "announced: no such data here", "0", 0),
        (AT_RUN, "could not be bothered", "0", 1),
        (AT_COLLECTION, "no module", "1", 1),
    ],
    ids=["announced", "at run", "at collection"],
)
def test_unannounced_skips_fail(tmp_path: Path, page: str, reason: str, processes: str, status: int) -> None:
    shutil.copy(CONFTEST, tmp_path / "conftest.py")
    (tmp_path / "test_sample.py").write_text(page.format(reason=reason))
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    quick = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", "-q", *quick, "-n", processes, "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("nobody announced" in done.stdout) is (status == 1)
