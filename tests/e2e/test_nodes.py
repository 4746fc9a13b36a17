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


SHAPES = {"2x2": (2, 2), "4x1": (4, 1), "3x2": (3, 2), "8x1": (8, 1)}
SLOW = "slow"  # a file: while it is there, the jobs take their time
APPS = {"heat2d": heat2d(size=64, every=10, iterations=5000, delay=20) + ["--slow-while", SLOW],
        "ring": ring(bytes=1 << 20, iterations=400, every=2, delay=250) + ["--slow-while", SLOW]}


def expected_of(work, app, ranks):
    """What an uninterrupted run prints, on one node."""
    return work.run_on(["n1"], APPS[app], ranks=ranks).wait()


def checkpointed(work, app, hosts, ranks, times=1, **more):
    """A job that takes its time, with so many checkpoints at random moments."""
    work.file(SLOW)
    job = work.run_on(hosts, APPS[app], ranks=ranks, keep=2, **more).started()
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
