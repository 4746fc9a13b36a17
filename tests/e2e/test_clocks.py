"""Nodes that have booted days apart: the clocks of a job go on where they were, wherever it is restarted."""
import os

import pytest
from cluster_testing import Cluster
from conftest import SEED
from nodes_testing import NodesWork
from stillpoint_testing import STOPPED, program

DAYS = 24 * 3600


@pytest.fixture
def work():
    with Cluster(f"clocks-{os.getpid()}") as cluster:
        cluster.up(3, uptime={"n1": 5 * DAYS, "n2": 600, "n3": 40 * DAYS})
        work = NodesWork(cluster, "clocks", SEED)
        yield work
        left = work.left()
        work.finish()
        assert not left, left


def test_time_apart(work):
    """From nodes with one uptime to others, back and forth in it, with a checkpoint on each."""
    app = program("clocks", "GO")
    job = work.run_on(["n1", "n2"], app, ranks=4).started()
    job.wait_for("(looks(.|\n)*){4}")
    out = b""
    for hosts in (["n2", "n3"], ["n3", "n1"], ["n2"]):
        job.checkpoint("--stop")
        job.wait(status=STOPPED)
        out += job.out
        work.node = hosts[0]
        job = work.restart_on(hosts, job.name).started()
    work.file("GO")
    out += job.wait()
    assert sorted(out.decode().splitlines()) == sorted(
        line for rank in range(4) for line in (f"rank {rank} looks", f"rank {rank}: the clocks went on"))
