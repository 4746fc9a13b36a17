"""A shared directory that is full, under a job over several nodes."""
import os
import subprocess

import pytest
from cluster_testing import Cluster
from conftest import SEED
from nodes_testing import NodesWork
from stillpoint_testing import NO_SPACE, heat2d

MEGABYTES = 64


@pytest.fixture
def work():
    with Cluster(f"full-{os.getpid()}") as cluster:
        cluster.up(2)
        for node in ("n1", "n2"):
            cluster.kill(node)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=1777", "small", cluster.shared], check=True)
        try:
            for node in ("n1", "n2"):
                cluster.start(node)
            work = NodesWork(cluster, "full", SEED)
            yield work
            left = work.left()
            work.finish()
        finally:
            for node in ("n1", "n2"):
                cluster.kill(node)
            subprocess.run(["umount", cluster.shared], check=True)
        assert not left, left


def test_full(work):
    """The checkpoint that does not fit is undone on all nodes, the job goes on, and the one before is as it was."""
    work.file("slow")
    app = heat2d(size=64, every=10, iterations=3000, delay=20, memory=2) + ["--slow-while", "slow"]
    job = work.run_on(["n1", "n2"], app, ranks=4).started()
    job.wait_for("iteration")
    first = job.checkpoint()
    filler = work.path / "filler"
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
    done = job.checkpoint(status=NO_SPACE)
    assert "node n" in done.err and "No space left" in done.err, done
    work.command("verify", first["path"], user="root")
    assert work.tentative(work.path) == [] and work.epochs(job.name) == [first["epoch"]]
    filler.unlink()
    second = job.checkpoint()
    (work.path / "slow").unlink()
    whole = job.wait()
    work.command("verify", second["path"], user="root")
    rest = work.restart_on(["n2"], job.name).wait()
    assert whole[:work.stdout_before(second["path"])] + rest == whole
