"""What a job can leave on a machine: processes, mounts, cgroups, namespaces, files.  Two looks, before and after a
test, tell what the test has left."""
import os
import pathlib
import re
import time

WAIT = 10  # seconds that things may take to go


def _read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return b""


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parents():
    parents = {}
    for pid in _pids():
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if len(fields) > 1:
            parents[pid] = int(fields[1])
    return parents


def descendants(pid):
    """The process and all below it, deepest first."""
    parents = _parents()
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[::-1]


def _processes(marker):
    """Ours by their name, by their cgroup, or because they have inherited the test's mark."""
    found = set()
    mine = os.getpid()
    for pid in _pids():
        stat = _read(f"/proc/{pid}/stat")
        if pid == mine or not stat or stat.rpartition(b")")[2].split()[:1] == [b"Z"]:
            continue
        name = stat[stat.find(b"(") + 1:stat.rfind(b")")].decode(errors="replace")
        marked = marker.encode() in _read(f"/proc/{pid}/environ").split(b"\0")
        if marked or name.startswith("stillpoint") or name == "criu" or \
                b"stillpoint-" in _read(f"/proc/{pid}/cgroup"):
            line = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
            group = _read(f"/proc/{pid}/cgroup").decode().strip().rpartition("/")[2]
            found.add(f"process {pid} ({name}) {line[:120]}, cgroup {group}{', ' + marker if marked else ''}")
    return found


def mounts():
    """Counted, for the same line may be there twice."""
    lines = [re.sub(r"^\d+ \d+ ", "", line) for line in _read("/proc/self/mountinfo").decode().splitlines()]
    return {f"mount {line} (number {lines[:i].count(line) + 1})" for i, line in enumerate(lines)}


def _cgroups():
    return {f"cgroup {path}" for path, _, _ in os.walk("/sys/fs/cgroup")
            if os.path.basename(path).startswith("stillpoint-")}


def _network_namespaces():
    found = set()
    for pid in _pids():
        try:
            found.add(f"network namespace {os.readlink(f'/proc/{pid}/ns/net')}")
        except OSError:
            pass
    return found


def _files():
    found = set()
    for directory in ("/run/stillpoint/jobs", "/dev/shm"):
        try:
            found |= {f"file {directory}/{name}" for name in os.listdir(directory)}
        except FileNotFoundError:
            pass
    return found


def tentative_files(directory):
    return sorted(str(path) for path in pathlib.Path(directory).rglob("*") if path.name.endswith(".tentative"))


def _tentative_epochs(directory):
    """Directories of epochs that never became permanent."""
    return {f"checkpoint without a manifest {path}" for path in pathlib.Path(directory).glob("**/*.0/*")
            if path.is_dir() and path.name.isdigit() and not (path / "manifest.h5").exists()}


def look(marker, directory):
    return (_processes(marker) | mounts() | _cgroups() | _network_namespaces() | _files()
            | {f"tentative {path}" for path in tentative_files(directory)} | _tentative_epochs(directory))


def left(before, marker, directory, jobs=None):
    """What is there now and was not before.  What is on its way out gets a little time.  With `jobs`, only what can be
    told to be the test's own, by its mark, its directory or the names of its jobs."""
    end = time.monotonic() + WAIT
    while True:
        found = look(marker, directory) - before
        if jobs is not None:
            found = {one for one in found if any(token in one for token in (marker, str(directory), *jobs))}
        if not found or time.monotonic() > end:
            return sorted(found)
        time.sleep(0.1)
