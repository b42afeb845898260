"""What all tests share: thread counts that fit the processes, the shared data, and no silent skips.

A test may skip only for a reason that starts with "announced:"; any other skip makes the whole run fail, since
a test that stopped running looks like one that passes.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ANNOUNCED = "announced:"
# Test files import tiny_models.py, which lies here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Before torch is imported: each process takes its share of the cores, or they wait for one another.
    _share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(_name, str(_share))

_unannounced: set[str] = set()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data files beside the checkout, with which some tests try real text; they are no part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{ANNOUNCED} the shared data folder is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tiny journey to look at and to copy: corpus, tokenizer, tokens, conversations, base, chat."""
    import tiny_journey

    return tiny_journey.make(tmp_path_factory.mktemp("workshop"))


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    # pytest's longrepr of a skip is (file, line, "Skipped: reason").
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(ANNOUNCED):
        _unannounced.add(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note_skip(report)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """From a process of pytest-xdist: skips during collection are seen there alone."""
    _unannounced.update(getattr(node, "workeroutput", {}).get("unannounced_skips", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["unannounced_skips"] = sorted(_unannounced)
    elif _unannounced and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _unannounced:
        terminalreporter.section("skips that nobody announced: the run fails", red=True)
        for line in sorted(_unannounced):
            terminalreporter.line(line)
