"""stillpointd on the nodes of a cluster: who is served, who is refused, and what its end does to jobs."""
import json
import os
import pathlib
import subprocess
import time

import pytest
from cluster_testing import SHARED, Cluster
from stillpoint_testing import BUSY, PREFIX, STILLPOINT, UNFIT, WAIT, ring, wait_until

BY_HAND = pathlib.Path(__file__).resolve().parent / "peer_by_hand.py"
DAEMON = PREFIX / "sbin/stillpointd"
CONFIG = "/etc/stillpoint/stillpoint.conf"
LOG = "/var/log/stillpointd.log"
CALL_TIME = 8  # seconds that `check --hosts` waits for a node that is silent
PORT = 295


@pytest.fixture(scope="module")
def cluster():
    with Cluster(f"daemon-{os.getpid()}") as cluster:
        cluster.up(2)
        yield cluster


def check(cluster, hosts="n1,n2", user=None, status=0):
    """What `stillpoint check --hosts` says on n1: {host: facts}."""
    done = cluster.exec("n1", STILLPOINT, "check", "--hosts", hosts, "--json", user=user, status=status)
    said = json.loads(done.stdout)
    assert said["fit"] == (status == 0), done
    return {node["host"]: node for node in said["nodes"]}


def by_hand(cluster, node, *args, user="physicist"):
    return cluster.exec(node, "python3", "-B", BY_HAND, *args, user=user).stdout.splitlines()


def daemon_pid(cluster, node):
    return cluster.exec(node, "cat", "/run/stillpoint/stillpointd.lock").stdout.strip()


def log(cluster, node):
    return cluster.exec(node, "cat", LOG).stdout


def end_daemon(cluster, node, signal="TERM"):
    pid = daemon_pid(cluster, node)
    cluster.exec(node, "kill", f"-{signal}", pid)
    wait_until(lambda: cluster.exec(node, "kill", "-0", pid, status=None).returncode, "stillpointd to end")


def start_daemon(cluster, node, status=0):
    return cluster.exec(node, "sh", "-c", f"exec {DAEMON} 2>> {LOG}", status=status)


@pytest.mark.parametrize("user", [None, "physicist"])
def test_both_nodes_answer(cluster, user):
    nodes = check(cluster, user=user)
    assert list(nodes) == ["n1", "n2"]
    for host, node in nodes.items():
        assert node["ok"] and node["node"] == host and node["unfit"] == [] and node["jobs"] == []
        assert node["kernel"] == os.uname().release and node["criu"].startswith("4.") and node["stillpoint"]
        assert node["uptime_s"] > 0
    lines = cluster.exec("n1", STILLPOINT, "check", "--hosts", "n2,n1", user=user).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", "n2"], ["ok", "n1"]]


@pytest.mark.parametrize("hosts", ["", "n1,,n2", "n1,n1", "n1, n2"])
def test_lists_that_are_none(cluster, hosts):
    done = cluster.exec("n1", STILLPOINT, "check", "--hosts", hosts, status=64)
    assert done.stderr.count("\n") == 1 and "--hosts" in done.stderr


def test_silent_and_unknown_nodes_are_named(cluster):
    cluster.cut("n2")
    start = time.monotonic()
    nodes = check(cluster, "n1,n2,no-such-node", status=UNFIT)
    took = time.monotonic() - start
    cluster.heal("n2")
    assert nodes["n1"]["ok"]
    assert not nodes["n2"]["ok"] and "does not answer" in nodes["n2"]["error"] and nodes["n2"]["remedy"]
    assert "no IPv4 address" in nodes["no-such-node"]["error"]
    assert CALL_TIME <= took < CALL_TIME + 10
    wait_until(lambda: cluster.reach("n1", "n2"), "n2 to be back")
    check(cluster)


@pytest.fixture
def job(cluster):
    """A job of physicist's on n2, that goes on until it is ended."""
    out = cluster.shared / "out"
    with open(out, "wb") as stdout:
        process = cluster.popen("n2", "sudo", "-n", "--preserve-env=PATH", STILLPOINT, "run", "--name", "lives", "--",
                                *ring(iterations=100000, every=1, delay=20), user="physicist", cwd=SHARED,
                                stdout=stdout, stderr=subprocess.DEVNULL)
    cluster.wait_for_file("out", b"iteration")
    yield out
    process.terminate()
    process.wait(WAIT)


def goes_on(out):
    size = out.stat().st_size
    wait_until(lambda: out.stat().st_size > size, "the job to go on")


def test_jobs_are_shown_to_their_owner(cluster, job):
    assert check(cluster, user="physicist")["n2"]["jobs"] == ["lives"]
    assert check(cluster)["n2"]["jobs"] == ["lives"]
    assert check(cluster, user="chemist")["n2"]["jobs"] == []
    goes_on(job)


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_daemon_goes_and_comes_and_the_job_stays(cluster, job, signal):
    end_daemon(cluster, "n2", signal)
    nodes = check(cluster, status=UNFIT)
    assert nodes["n1"]["ok"] and "no stillpointd listens there" in nodes["n2"]["error"]
    goes_on(job)
    start_daemon(cluster, "n2")
    assert check(cluster)["n2"]["jobs"] == ["lives"]
    goes_on(job)


def test_second_daemon_is_refused(cluster):
    done = cluster.exec("n1", DAEMON, status=BUSY)
    assert done.stderr == ("stillpointd: error: stillpointd runs on this node already, as process "
                           f"{daemon_pid(cluster, 'n1')}\n")
    assert "needs root" in cluster.exec("n1", DAEMON, user="physicist", status=77).stderr
    check(cluster)


def test_mistakes_in_the_configuration(cluster):
    end_daemon(cluster, "n2")
    cluster.exec("n2", "sh", "-c", f"cp {CONFIG} /tmp/conf; echo 'prot = 300' >> /tmp/conf; echo 'port = 80' > /tmp/other")
    done = cluster.exec("n2", DAEMON, "--config", "/tmp/conf", status=64)
    assert "/tmp/conf:2: there is no key 'prot'; did you mean 'port'?" in done.stderr
    cluster.exec("n2", "chown", "physicist", "/tmp/other")
    done = cluster.exec("n2", "env", "STILLPOINT_CONFIG=/tmp/other", DAEMON, status=77)
    assert "/tmp/other does not belong to root" in done.stderr
    start_daemon(cluster, "n2")
    check(cluster)


def test_reload(cluster):
    """Of a configuration with a mistake: all stays; of one with another port: it listens there."""
    pid = daemon_pid(cluster, "n2")

    def reload(lines, says):
        before = log(cluster, "n2").count(says)
        cluster.exec("n2", "sh", "-c", f"printf 'address = 10.88.0.2\n{lines}' > {CONFIG}; kill -HUP {pid}")
        wait_until(lambda: log(cluster, "n2").count(says) > before, f"'{says}' in the log")
    reload("keep = many\n", f"{CONFIG}:2: keep")
    check(cluster)
    reload("port = 296\ntunnel-ports = 30000-30009\n", "has been read again")
    assert "no stillpointd" in check(cluster, status=UNFIT)["n2"]["error"]
    assert "30000-30009" in cluster.exec("n2", "nft", "list", "table", "inet", "stillpoint-tunnels").stdout
    cluster.exec("n1", "sh", "-c", "echo 'port = 296' > /tmp/conf")
    done = cluster.exec("n1", "env", "STILLPOINT_CONFIG=/tmp/conf", STILLPOINT, "check", "--hosts", "n2")
    assert done.stdout.startswith("ok   n2")
    reload("", "has been read again")
    check(cluster)


def test_users_are_kept_out_of_the_tunnels(cluster):
    send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('10.88.0.2', {}))"
    table = cluster.exec("n1", "nft", "list", "table", "inet", "stillpoint-tunnels").stdout
    assert "29400-29655" in table and "packets 0" in table
    assert cluster.exec("n1", "python3", "-c", send.format(29500), user="physicist", status=None).returncode != 0
    assert "packets 1 " in cluster.exec("n1", "nft", "list", "table", "inet", "stillpoint-tunnels").stdout
    cluster.exec("n1", "python3", "-c", send.format(29399), user="physicist")


def test_another_version_is_refused_in_words(cluster):
    said, = by_hand(cluster, "n1", "hello", "n2", 7, 9)
    assert said.startswith("refused: ") and "speaks version 1 " in said and "versions 7 to 9" in said


def test_no_credential_no_service(cluster):
    said, = by_hand(cluster, "n1", "hello", "n2", 1, 1)
    assert said == "refused: no MUNGE credential was given"


def test_unix_socket_needs_no_credential(cluster):
    assert by_hand(cluster, "n2", "hello", "/run/stillpoint/stillpointd.sock", 1, 3) == ["version 1", "host n2"]


def test_nonsense_is_dropped(cluster):
    """And logged once a minute for each node."""
    end_daemon(cluster, "n2")
    start_daemon(cluster, "n2")
    for _ in range(5):
        assert by_hand(cluster, "n1", "garbage", "n2") == ["closed"]
    check(cluster)
    last = log(cluster, "n2").rpartition(" serves at ")[2]
    assert last.count("warning: 10.88.0.1: a message ") == last.count("warning: ") == 1


def test_impostor_is_found_out(cluster):
    """Even where an ordinary user could listen on the port."""
    end_daemon(cluster, "n2")
    cluster.exec("n2", "sysctl", "-qw", f"net.ipv4.ip_unprivileged_port_start={PORT}")
    poser = cluster.popen("n2", "python3", "-B", BY_HAND, "pose", PORT, user="physicist", stdout=subprocess.PIPE)
    assert poser.stdout.readline() == b"ready\n"
    node = check(cluster, "n2", status=UNFIT)["n2"]
    poser.wait(WAIT)
    poser.stdout.close()
    cluster.exec("n2", "sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=1024")
    start_daemon(cluster, "n2")
    assert "not by root" in node["error"] and "posing" in node["remedy"]
    check(cluster)


def test_no_munge(cluster):
    pid = cluster.exec("n1", "cat", "/run/munge/munged.pid").stdout.strip()
    cluster.exec("n1", "kill", pid)
    wait_until(lambda: cluster.exec("n1", "kill", "-0", pid, status=None).returncode, "munged to end")
    nodes = check(cluster, "n2", user="physicist", status=UNFIT)
    assert "munged does not answer" in nodes["n2"]["error"] and "start it" in nodes["n2"]["remedy"]
    cluster.exec("n1", "setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups", "munged")
    check(cluster, user="physicist")
