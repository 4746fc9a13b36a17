"""Every test gets a directory and a seed of its own, and is held to leave nothing behind.

STILLPOINT_TEST_SEED    repeats the random choices of a run (printed at its start)
STILLPOINT_BUILD        the build directory, for the test programs (/build)
STILLPOINT_TEST_KEEP    keep the directories of tests that passed, too
STILLPOINT_TEST_SHARED  others use Stillpoint on this machine at the same time: what they have is not held against us"""
import os
import pathlib
import secrets
import shutil
import sys
import zlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import leftovers  # noqa: E402
from stillpoint_testing import Work  # noqa: E402

SEED = int(os.environ.get("STILLPOINT_TEST_SEED") or secrets.randbelow(10**6))
BASE = pathlib.Path("/tmp/stillpoint-tests") / str(os.getpid())


def pytest_report_header():
    return f"STILLPOINT_TEST_SEED={SEED}, directories in {BASE}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.has_failed = True
        report.sections.append(("again", f"STILLPOINT_TEST_SEED={SEED} tests/testbed/run --preset "
                                f"{os.environ.get('STILLPOINT_PRESET', 'release')} pytest 'tests/e2e/{item.path.name}::{item.name}'\n"
                                f"its files: {getattr(item, 'work_path', 'none')}"))


@pytest.fixture
def work(request):
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in request.node.name)
    path = BASE / name
    path.mkdir(parents=True)
    for directory in (path.parent.parent, path.parent, path):
        directory.chmod(0o1777)  # users that are not root write there, too
    request.node.work_path = path
    mark = f"STILLPOINT_TEST_MARK={os.getpid()}-{name}"
    os.environ.update([mark.split("=", 1)])
    before = leftovers.look(mark, path)
    # The seed of a test does not depend on which tests ran before it.
    work = Work(path, SEED + zlib.crc32(request.node.nodeid.rpartition("/")[2].encode()))
    yield work
    failed = getattr(request.node, "has_failed", False)
    if failed:
        work.finish()
        return
    running = [job.story() for job in work.jobs if job.process.poll() is None]
    jobs = [job.name for job in work.jobs if job.name] if os.environ.get("STILLPOINT_TEST_SHARED") else None
    found = [] if running else leftovers.left(before | work_mounts(work), mark, path, jobs)
    work.finish()
    assert not running, "jobs run on after the test:\n" + "\n".join(running)
    assert not found, "left behind:\n" + "\n".join(found)
    if not os.environ.get("STILLPOINT_TEST_KEEP"):
        shutil.rmtree(path)


def work_mounts(work):
    """Those that the test itself has made; finish() takes them away."""
    return {line for line in leftovers.mounts() if any(f" {path} " in line for path in work.mounted)}


def pytest_sessionfinish():
    for directory in (BASE, BASE.parent):
        try:
            directory.rmdir()
        except OSError:
            pass  # holds what failed
