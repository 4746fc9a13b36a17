"""Jobs over several nodes: one consistent cut, killed nodes, restarts on the same nodes, on others and on fewer."""
import os
import time
import zlib

import pytest
from cluster_testing import Cluster
from conftest import SEED
from nodes_testing import NodesWork
from stillpoint_testing import STOPPED, USAGE, heat2d, ring

NODES = [f"n{i}" for i in range(1, 9)]
SANITIZED = os.environ.get("STILLPOINT_PRESET") == "asan"  # slower, so with less of the same
CHECKPOINTS = 4 if SANITIZED else 20


@pytest.fixture(scope="module")
def cluster():
    with Cluster(f"nodes-{os.getpid()}") as cluster:
        cluster.up(8)
        yield cluster


@pytest.fixture
def work(cluster, request):
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in request.node.name)
    work = NodesWork(cluster, name, SEED + zlib.crc32(request.node.nodeid.rpartition("/")[2].encode()))
    request.node.work_path = work.path
    yield work
    running = [job.story() for job in work.jobs if job.process.poll() is None]
    for node, said in cluster.status().items():
        if said.startswith("down"):
            cluster.start(node)
        elif "cut" in said:
            cluster.heal(node)
    left = [] if running else settled(work)
    work.finish()
    assert not running, "jobs run on after the test:\n" + "\n".join(running)
    assert not left, "left behind:\n" + "\n".join(left)


def settled(work, seconds=20):
    """What is left on the nodes once what is on its way out has had a little time."""
    end = time.monotonic() + seconds
    while (left := work.left() + work.tentative(work.path)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def whole(work, job, taken, rest):
    return job.out[:work.stdout_before(taken["path"])] + rest


SHAPES = {"2x2": (2, 2)} if SANITIZED else {"2x2": (2, 2), "4x1": (4, 1), "3x2": (3, 2), "8x1": (8, 1)}
SLOW = "slow"  # a file: while it is there, the jobs take their time
APPS = {"heat2d": heat2d(size=64, every=10, iterations=5000, delay=20) + ["--slow-while", SLOW],
        "ring": ring(bytes=1 << 20, iterations=400, every=2, delay=250) + ["--slow-while", SLOW]}


def expected_of(work, app, ranks):
    """What an uninterrupted run prints, on one node."""
    return work.run_on(["n1"], APPS[app], ranks=ranks).wait()


def checkpointed(work, app, hosts, ranks, times=1, front=None):
    """A job that takes its time, started from the node `front`, with so many checkpoints at random moments."""
    work.file(SLOW)
    work.node = front or hosts[0]
    job = work.run_on(hosts, APPS[app], ranks=ranks, keep=2).started()
    work.node = hosts[0]  # where its lead is, which the other commands ask
    job.wait_for("iteration")
    for _ in range(times):
        time.sleep(work.random.uniform(0, 0.1))
        taken = job.checkpoint()
    return job, taken


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("app", APPS)
def test_all_nodes_die(work, app, shape):
    """Checkpoints at random moments, then the power of all nodes is cut; then on other nodes, on half of them, on one."""
    nodes, each = SHAPES[shape]
    ranks = nodes * each
    expected = expected_of(work, app, ranks)
    job, taken = checkpointed(work, app, NODES[:nodes], ranks, CHECKPOINTS)
    assert work.epochs(job.name) == [taken["epoch"] - 1, taken["epoch"]]
    out = job.out[:work.stdout_before(taken["path"])]
    for node in NODES[:nodes]:
        work.cluster.kill(node)
    job.process.wait(30)
    for node in NODES[:nodes]:
        work.cluster.start(node)

    others = (NODES[nodes:] + NODES)[:nodes][::-1]
    for hosts in (others, NODES[:max(nodes // 2, 1)], ["n3"]):
        work.node = hosts[0]  # where the job's lead is
        again = work.restart_on(hosts, job.name).started()
        assert {rank["node"] for rank in again.status()["rank"]} == set(hosts)
        taken = again.checkpoint("--stop")
        again.wait(status=STOPPED)
        assert work.tentative(work.path) == []
        out += again.out
    work.seen(work.inside / SLOW).unlink()
    assert out + work.restart_on(NODES[:nodes], job.name).wait() == expected


# --- failures: at a random moment of a checkpoint, so that over many runs each meets every phase

TIMEOUT = 4  # seconds of silence after which these nodes call each other lost
MOMENTS = 1 if SANITIZED else 2
PKILL = "kill -9 $(pgrep -x {name} | head -n 1)"


def kill_part(work, job):
    work.cluster.exec("n2", "kill", "-9", str(work.pids("n2", job.name, 1)[0]))


def kill_lead(work, job):
    work.cluster.exec("n1", "kill", "-9", str(work.lead_pid("n1", job.name)))


def kill_by_name(node, name):
    # A process that ends by itself a moment before is no fault.
    return lambda work, _: work.cluster.exec(node, "sh", "-c", PKILL.format(name=name), status=None)


FATAL = {"part killed": kill_part,
         "lead killed": kill_lead,
         "lead's node dies": lambda work, _: work.cluster.kill("n1"),
         "another node dies": lambda work, _: work.cluster.kill("n2"),
         "node cut off": lambda work, _: work.cluster.cut("n2"),
         "supervisor killed": kill_by_name("n2", "stillpoint-supe"),
         "rank killed": kill_by_name("n2", "heat2d")}


@pytest.fixture
def impatient(cluster):
    """The nodes of these tests do not wait a minute until they call another lost."""
    for node in NODES[:3]:
        cluster.exec(node, "sh", "-c", f"echo 'node-timeout = {TIMEOUT}s' >> /etc/stillpoint/stillpoint.conf; "
                                       "kill -HUP $(cat /run/stillpoint/stillpointd.lock)")
    yield
    for node in NODES[:3]:
        if cluster.status()[node].startswith("down"):
            cluster.start(node)
        cluster.exec(node, "sh", "-c", "sed -i /node-timeout/d /etc/stillpoint/stillpoint.conf; "
                                       "kill -HUP $(cat /run/stillpoint/stillpointd.lock)")


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("fault", FATAL)
def test_what_ends_the_job(work, impatient, fault, moment):
    """The job's own processes die: a clear error, and a restart from the last permanent checkpoint gives its result."""
    expected = expected_of(work, "heat2d", 4)
    job, _ = checkpointed(work, "heat2d", ["n1", "n2"], 4, front="n3")
    second = work.in_background("checkpoint", job.name)
    time.sleep(work.random.uniform(0, 0.6))
    FATAL[fault](work, job)
    job.wait(status=None, timeout=60)
    second.finish(status=None)
    assert job.process.returncode not in (0, None), job.story()
    assert [line for line in job.err.splitlines() if "error:" in line], job.story()
    for node in ("n1", "n2"):
        if work.cluster.status()[node].startswith("down"):
            work.cluster.start(node)
        work.cluster.heal(node)
    work.wait_gone(job.name)
    work.node = "n3"
    epoch = max(work.epochs(job.name))
    place = work.inside / "stillpoint-checkpoints" / f"{job.name}.0" / str(epoch)
    work.command("verify", place, user="root")
    work.seen(work.inside / SLOW).unlink()
    again = work.restart_on(["n3", "n1"], job.name)
    assert job.out[:work.stdout_before(place)] + again.wait() == expected


HARMLESS = {"CRIU killed": (kill_by_name("n2", "criu"), None),
            "node slow": (lambda work, _: work.cluster.slow("n2", 20), lambda work: work.cluster.slow("n2")),
            "cut off for a moment": (lambda work, _: work.cluster.cut("n2"), lambda work: work.cluster.heal("n2")),
            "directory read-only": (
                lambda work, _: work.cluster.exec("n2", "mount", "-o", "remount,ro,bind", "/shared"),
                lambda work: work.cluster.exec("n2", "mount", "-o", "remount,rw,bind", "/shared"))}


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("fault", HARMLESS)
def test_what_the_job_survives(work, fault, moment):
    """The checkpoint under way may come to nothing; the job goes on, the one before is as it was, the next succeeds."""
    expected = expected_of(work, "heat2d", 4)
    job, first = checkpointed(work, "heat2d", ["n1", "n2"], 4)
    inject, mend = HARMLESS[fault]
    second = work.in_background("checkpoint", job.name)
    time.sleep(work.random.uniform(0, 0.6))
    inject(work, job)
    if mend:
        time.sleep(work.random.uniform(2, 8))
        mend(work)
    second.finish(status=None)
    assert job.process.poll() is None, job.story()
    work.command("verify", first["path"], user="root")
    third = job.checkpoint()
    assert third["epoch"] > first["epoch"] and work.tentative(work.path) == []
    work.seen(work.inside / SLOW).unlink()
    assert job.wait() == expected
    assert job.out[:work.stdout_before(third["path"])] + work.restart_on(["n2", "n3"], job.name).wait() == expected
