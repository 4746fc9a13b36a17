"""Jobs over several nodes: one consistent cut, killed nodes, restarts on the same nodes, on others and on fewer."""
import os
import pathlib
import time
import zlib

import pytest
from cluster_testing import Cluster
from conftest import SEED
from nodes_testing import USER, NodesWork
from stillpoint_testing import STOPPED, heat2d, program, ring

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


# --- what is on its way, and where checkpoints lie


def test_closed_window(work):
    """A receiver that reads nothing before the restart: what waits for it is in the sender's dump."""
    app = program("closed_window", "GO")
    work.file("GO")
    expected = work.run_on(["n1", "n2"], app, ranks=2).wait()
    work.seen(work.inside / "GO").unlink()
    job = work.run_on(["n1", "n2"], app, ranks=2).started()
    job.wait_for("on their way")
    for _ in range(3):
        taken = job.checkpoint()
    sender = work.inspect(taken["path"])["containers"][0]
    assert sender["in_flight"]["closed_windows"] == 1 and sender["in_flight"]["bytes"] == 0
    for node in ("n1", "n2"):
        work.cluster.kill(node)
        work.cluster.start(node)
    job.wait(status=None)
    work.node = "n3"
    again = work.restart_on(["n3", "n4"], job.name).started()
    work.file("GO")
    assert job.out[:work.stdout_before(taken["path"])] + again.wait() == expected


def test_messages_in_both_directions(work):
    """Megabytes under way both ways at every checkpoint."""
    app = ring(bytes=8 << 20, iterations=60, every=5)
    expected = work.run_on(["n1"], app, ranks=4).wait()
    job = work.run_on(["n1", "n2", "n3", "n4"], app, ranks=4).started()
    taken = [job.checkpoint() for _ in range(3)]
    for node in ("n1", "n2", "n3", "n4"):
        work.cluster.kill(node)
        work.cluster.start(node)
    job.wait(status=None)
    for one, hosts in zip(taken, (["n4", "n3", "n2", "n1"], ["n2", "n3"], ["n1"])):
        work.node = hosts[0]
        rest = work.restart_on(hosts, one["path"]).wait()
        assert job.out[:work.stdout_before(one["path"])] + rest == expected


@pytest.fixture
def fuse_for_all():
    """As udev has it where there is one."""
    device = pathlib.Path("/dev/fuse")
    mode = device.stat().st_mode & 0o777
    device.chmod(0o666)
    yield
    device.chmod(mode)


def test_a_file_system_that_refuses_root(work, fuse_for_all):
    """Checkpoints on a FUSE mount of the user's, which root cannot even look into."""
    store = work.directory("store", user=USER)
    place = work.inside / "mine"
    work.directory("mine", user=USER)
    for node in ("n1", "n2"):
        work.cluster.exec(node, "bindfs", "--no-allow-other", work.inside / "store", place, user=USER)
        assert work.cluster.exec(node, "ls", place, status=None).returncode != 0, "root can look into it"
    expected = expected_of(work, "heat2d", 4)
    work.file(SLOW)
    job = work.run_on(["n1", "n2"], APPS["heat2d"], "--checkpoint-dir", place, ranks=4).started()
    job.wait_for("iteration")
    done = work.command("checkpoint", job.name, "--stop", "--json").json
    job.wait(status=STOPPED)
    assert (store / f"{job.name}.0" / str(done["epoch"]) / "manifest.h5").exists()
    work.seen(work.inside / SLOW).unlink()
    again = work.restart_on(["n2", "n1"], job.name, "--checkpoint-dir", place)
    assert job.out + again.wait() == expected
    for node in ("n1", "n2"):
        work.cluster.exec(node, "umount", place)


@pytest.mark.parametrize("hosts, says", [("n1,n1", "twice"), ("n1:2,n2", "slots"), ("n1:1,n2:1", "slots"), ("n1,", "hosts"),
                                         ("n1,no-such-node", "no-such-node"), ("n1:0", "n1")])
def test_hosts_that_are_none(work, hosts, says):
    done = work.command("run", "--hosts", hosts, "-n", 4, "--", *APPS["heat2d"], status=None)
    assert done.status not in (0, None) and says in done.complaints[-1], done


def test_others_are_kept_out(work):
    """A job's files and processes are its owner's; nobody acts for another."""
    job, taken = checkpointed(work, "heat2d", ["n1", "n2"], 2)
    for command in (["checkpoint", job.name], ["status", job.name]):
        done = work.command(*command, user="chemist", status=77)
        assert "belongs to" in done.complaints[-1]
    done = work.command("restart", taken["path"], "--hosts", "n3,n4", user="chemist", status=None)
    assert done.status in (66, 77), done
    work.seen(work.inside / SLOW).unlink()
    job.wait()
