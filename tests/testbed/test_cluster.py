"""The cluster of the testbed itself: its nodes are as separate as machines are, fail as machines do, and leave nothing."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import leftovers  # noqa: E402
from cluster_testing import COMMAND, SHARED, Cluster  # noqa: E402
from stillpoint_testing import STILLPOINT, WAIT, ring, wait_until  # noqa: E402

UPTIME = 1_000_000
NAME = f"test-{os.getpid()}"


@pytest.fixture(scope="module")
def cluster():
    with Cluster(NAME) as cluster:
        cluster.up(3, uptime={"n2": UPTIME})
        yield cluster


def alive(pid):
    """Zombies, which wait for the machine's own pid 1, have no namespaces any more."""
    return os.path.exists(f"/proc/{pid}/ns/net")


def group_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def traces(name):
    """What there is of a cluster outside of its nodes."""
    found = [str(path) for path in pathlib.Path("/tmp").glob(f"stillpoint-cluster-{name}")]
    found += [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"/testbed-{name}")]
    found += [line for line in leftovers.mounts() if f"stillpoint-cluster-{name}" in line]
    return found + [pid for pid in leftovers.descendants(1) if f"/testbed-{name}/" in group_of(pid) and alive(pid)]


def said(cluster, node, *command, **more):
    return cluster.exec(node, *command, **more).stdout.strip()


def test_names_and_addresses(cluster):
    for number, node in enumerate(("n1", "n2", "n3"), 1):
        assert said(cluster, node, "hostname") == node
        for other in ("n1", "n2", "n3"):
            assert said(cluster, other, "getent", "ahosts", node).split()[::2][0] == f"10.88.0.{number}"
        links = json.loads(said(cluster, node, "ip", "-json", "link"))
        assert {link["ifname"] for link in links if "UP" in link["flags"]} == {"lo", "eth0"}
        assert sorted(said(cluster, node, "ls", "/sys/class/net").split()) == ["eth0", "lo"]
        assert said(cluster, node, "ip", "route", "show", "default") == ""


def test_neighbours_are_permanent(cluster):
    """Else a peer that is cut off is silent for some seconds, and then "no route to host"."""
    known = json.loads(said(cluster, "n1", "ip", "-json", "-4", "neighbour"))
    assert {(one["dst"], *one["state"]) for one in known} >= {("10.88.0.2", "PERMANENT"), ("10.88.0.3", "PERMANENT")}


def test_every_node_reaches_every_other(cluster):
    nodes = ("n1", "n2", "n3")
    assert all(cluster.reach(here, there) for here in nodes for there in nodes)


def test_namespaces_are_a_nodes_own(cluster):
    for kind in ("net", "pid", "mnt", "uts", "ipc"):
        seen = {said(cluster, node, "readlink", f"/proc/1/ns/{kind}") for node in ("n1", "n2", "n3")}
        assert len(seen | {os.readlink(f"/proc/self/ns/{kind}")}) == 4, kind


@pytest.mark.parametrize("directory", ["/tmp", "/run", "/dev/shm", "/var/log", "/var/spool", "/var/tmp",
                                       "/var/lib/stillpoint", "/etc/stillpoint"])
def test_private_directories(cluster, directory):
    mark = pathlib.Path(directory, NAME)
    cluster.exec("n1", "touch", mark)
    assert cluster.exec("n2", "ls", mark, status=None).returncode != 0
    assert not mark.exists()
    cluster.exec("n1", "rm", mark)


def test_shared_directory(cluster):
    cluster.exec("n1", "sh", "-c", "echo from n1 > /shared/word", user="physicist")
    assert said(cluster, "n2", "cat", "/shared/word", user="chemist") == "from n1"
    assert (cluster.shared / "word").read_text() == "from n1\n"


def test_munge_from_node_to_node(cluster):
    credential = cluster.exec("n1", "munge", "-s", "hello", user="physicist").stdout
    decoded = cluster.exec("n2", "unmunge", stdin=None, input=credential).stdout
    assert "Success" in decoded and "n1 (10.88.0.1)" in decoded and "physicist" in decoded and "hello" in decoded


def test_one_signing_key(cluster):
    keys = {said(cluster, node, "sha256sum", "/etc/stillpoint/key") for node in ("n1", "n2", "n3")}
    assert len(keys) == 1
    assert said(cluster, "n1", "stat", "-c", "%s %a %U", "/etc/stillpoint/key") == "32 400 root"


def test_uptime(cluster):
    own = {node: float(said(cluster, node, "cut", "-d ", "-f1", "/proc/uptime")) for node in ("n1", "n2")}
    assert UPTIME <= own["n2"] < UPTIME + 600
    assert abs(own["n1"] - time.clock_gettime(time.CLOCK_BOOTTIME)) < WAIT
    script = "import time; print(time.monotonic())"
    assert UPTIME <= float(said(cluster, "n2", "python3", "-c", script)) < UPTIME + 600


def test_processes_run_in_the_nodes_cgroup(cluster):
    pid = cluster.status()["n1"].split()[-1]
    for of in ("self", "1"):
        groups = said(cluster, "n1", "cat", f"/proc/{of}/cgroup").splitlines()
        assert f"0::/testbed-{NAME}/n1" in groups
    assert f"/testbed-{NAME}/n1" in pathlib.Path(f"/proc/{pid}/cgroup").read_text()


def test_orphans_are_reaped(cluster):
    cluster.exec("n1", "bash", "-c", "for i in 1 2 3 4 5; do (sleep 0.0$i &); done")
    wait_until(lambda: not re.search(r"sleep 0|defunct", said(cluster, "n1", "ps", "ax")), "the orphans to be reaped")


def test_exec_passes_status_and_signals_on(cluster):
    cluster.exec("n1", "sh", "-c", "exit 7", status=7)
    cluster.exec("n1", "sh", "-c", "kill -KILL $$", status=137)
    script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    process = cluster.popen("n1", "bash", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(WAIT) == 5
    process.stdout.close()


def test_killed_exec_takes_its_command_along(cluster):
    process = cluster.popen("n1", "sleep", "4711")
    wait_until(lambda: "sleep 4711" in said(cluster, "n1", "ps", "ax"), "the command to run")
    process.kill()
    process.wait(WAIT)
    wait_until(lambda: "sleep 4711" not in said(cluster, "n1", "ps", "ax"), "the command to end")


# Sends a number every 20 ms to n1 over TCP, which writes each to the shared directory.
SERVER = """
import socket
listener = socket.create_server(("", 7000))
print("ready", flush=True)
connection, _ = listener.accept()
with open("/shared/received", "wb", buffering=0) as out:
    while data := connection.recv(65536):
        out.write(data)
    out.write(b"closed")
"""
CLIENT = """
import socket, time
connection = socket.create_connection(("n1", 7000))
for i in range(100000):
    connection.sendall(b"%d\\n" % i)
    time.sleep(0.02)
"""


@pytest.fixture
def stream(cluster):
    """A connection from n3 to n1 on which data flows; the file that grows with it."""
    server = cluster.popen("n1", "python3", "-c", SERVER, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    client = cluster.popen("n3", "python3", "-c", CLIENT)
    cluster.wait_for_file("received", b"5\n")
    yield cluster.shared / "received"
    for process in (server, client):
        process.kill()
        process.wait(WAIT)
    server.stdout.close()
    (cluster.shared / "received").unlink()


def stands_still(path, seconds=1.0):
    time.sleep(0.1)  # what was on its way when the command returned
    size = path.stat().st_size
    time.sleep(seconds)
    return path.stat().st_size == size


def test_cut_is_silence_and_heals(cluster, stream):
    cluster.cut("n1")
    assert "cut off" in cluster.status()["n1"]
    assert stands_still(stream)
    assert not cluster.reach("n1", "n3") and not cluster.reach("n3", "n1") and cluster.reach("n2", "n3")
    size = stream.stat().st_size
    cluster.heal("n1")
    assert cluster.reach("n1", "n3") and cluster.reach("n3", "n1")
    wait_until(lambda: stream.stat().st_size > size, "the connection to go on")
    assert "cut off" not in cluster.status()["n1"]
    lines = stream.read_bytes().split(b"\n")
    assert lines[:-1] == [b"%d" % i for i in range(len(lines) - 1)]


def test_power_cut_and_boot(cluster, stream):
    """Its peer hears nothing; what it had in memory is gone, what it had on disk is there."""
    cluster.exec("n3", "touch", "/tmp/lost", "/run/lost", "/dev/shm/lost", "/var/lib/stillpoint/kept")
    job = cluster.popen("n3", "sleep", "1000")
    inside = cluster.status()["n3"].split()[-1]
    cluster.kill("n3")
    assert job.wait(WAIT) == -signal.SIGKILL and not alive(inside)
    assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"testbed-{NAME}/n3")]
    assert cluster.status()["n3"] == "down"
    cluster.refused("exec", "n3", "true", says="n3 is down")
    cluster.refused("kill", "n3", says="n3 is down")
    assert stands_still(stream) and b"closed" not in stream.read_bytes()
    assert not cluster.reach("n1", "n3")
    cluster.start("n3")
    cluster.refused("start", "n3", says="n3 is up")
    assert cluster.reach("n1", "n3") and cluster.reach("n3", "n2")
    assert said(cluster, "n3", "find", "/tmp", "/run", "/dev/shm", "-name", "lost") == ""
    cluster.exec("n3", "ls", "/var/lib/stillpoint/kept")
    credential = cluster.exec("n3", "munge", "-n").stdout
    assert "Success" in cluster.exec("n1", "unmunge", stdin=None, input=credential).stdout


def test_node_ends_when_its_pid_1_is_told(cluster):
    cluster.exec("n3", "kill", "-TERM", "1", status=None)
    wait_until(lambda: cluster.status()["n3"] == "down", "n3 to be down")
    cluster.start("n3")
    assert cluster.reach("n3", "n1")


def processor_time(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_slow(cluster):
    """A node that is slowed to a hundredth gets next to no processor time, and all of it again later."""
    busy = cluster.popen("n2", "bash", "-c", "echo ready; while :; do :; done", stdout=subprocess.PIPE)
    assert busy.stdout.readline() == b"ready\n"
    pid = leftovers.descendants(busy.pid)[0]
    cluster.slow("n2", 100)
    assert "slow 100" in cluster.status()["n2"]
    start = processor_time(pid)
    time.sleep(2)
    assert processor_time(pid) - start < 0.2
    cluster.slow("n2", "off")
    start = processor_time(pid)
    wait_until(lambda: processor_time(pid) - start > 0.5, "the command to run at full speed")
    busy.kill()
    busy.wait(WAIT)
    busy.stdout.close()
    cluster.refused("slow", "n2", "1", says="2 to 100")


def test_up_twice_is_refused(cluster):
    cluster.refused("up", 2, "--no-build", says="is there already")


@pytest.mark.parametrize("arguments, says", [
    (["up", 1], "2 to 8"), (["up", 9], "2 to 8"), (["up", 2, "--uptime", "n3=5"], "NODE=SECONDS"),
    (["kill", "n8"], "there is no 'n8'"), (["kill", "../n1"], "there is no"), (["exec", "n1"], "takes a command"),
    (["exec", "n1", "--user", "nobody-there", "true"], "no user"), (["bogus"], "unknown command"), ([], "no command")])
def test_mistakes(cluster, arguments, says):
    cluster.refused(*arguments, says=says)


@pytest.mark.parametrize("user", [None, "physicist"])
def test_a_job_moves_to_another_node(cluster, user):
    """Checkpointed on one node, whose power then fails, restarted on another with other clocks."""
    directory = SHARED / f"job-{user}"
    cluster.exec("n1", "mkdir", directory, user=user)
    sudo = ["sudo", "-n", "--preserve-env=PATH"] if user else []
    options = dict(bytes=1 << 20, iterations=150, every=1)
    expected = cluster.exec("n2", *sudo, STILLPOINT, "run", "-n", 2, "--", *ring(**options), user=user, cwd=directory).stdout
    with open(cluster.shared / directory.name / "out", "wb") as out:
        job = cluster.popen("n1", *sudo, STILLPOINT, "run", "-n", 2, "--name", "moves", "--checkpoint-dir", directory, "--",
                            *ring(**dict(options, delay=20)), user=user, cwd=directory, stdout=out)
    cluster.wait_for_file(f"{directory.name}/out", b"iteration 20")
    taken = json.loads(cluster.exec("n1", STILLPOINT, "checkpoint", "moves", "--json", user=user, cwd=directory).stdout)
    before = json.loads(cluster.exec("n3", STILLPOINT, "inspect", taken["path"], "--json", user=user).stdout)["stdout_bytes"]
    cluster.kill("n1")
    assert job.wait(WAIT) == -signal.SIGKILL
    rest = cluster.exec("n2", *sudo, STILLPOINT, "restart", taken["path"], user=user, cwd=directory).stdout
    cluster.start("n1")
    whole = (cluster.shared / directory.name / "out").read_bytes()[:before] + rest.encode()
    assert whole.decode() == expected and b"iteration 20" in whole[:before]
    assert said(cluster, "n2", "find", "/dev/shm", "/run/stillpoint/jobs", "-mindepth", "1") == ""


def network_namespaces(pids):
    return {os.readlink(f"/proc/{pid}/ns/net") for pid in pids if alive(pid)}


def test_down_leaves_nothing():
    """Whatever runs in the nodes and whatever state they are in."""
    before = leftovers.mounts()
    with Cluster(f"{NAME}-2") as cluster:
        cluster.up(2)
        cluster.popen("n1", "bash", "-c", "trap '' TERM HUP INT; setsid sleep 1000")
        with open(cluster.shared / "out", "wb") as out:
            cluster.popen("n2", STILLPOINT, "run", "-n", 1, "--", *ring(iterations=100000, every=1, delay=20), stdout=out,
                          stderr=subprocess.DEVNULL, cwd=SHARED)
        cluster.wait_for_file("out", b"iteration")
        inside = [pid for pid in leftovers.descendants(1) if f"testbed-{NAME}-2/" in group_of(pid)]
        networks = network_namespaces(inside)
        assert len(networks) == 4  # of the switch, two nodes and a container
        cluster.cut("n1")
        cluster.slow("n2", 5)
    assert not traces(cluster.name) and not any(map(alive, inside))
    assert leftovers.mounts() <= before
    assert not networks & network_namespaces(leftovers.descendants(1))
    cluster.down()  # of nothing is fine


DAEMON = "mount -t tmpfs new /opt/stillpoint; mkdir /opt/stillpoint/sbin; cd /opt/stillpoint/sbin; " \
    "printf '#!/bin/bash\n%s\n' '{}' > stillpointd; chmod +x stillpointd; "


def up_with(cluster, changes):
    """`up 2` in a testbed that these shell commands have changed for it alone."""
    line = ["unshare", "--mount", "bash", "-ec", changes + 'exec "$1" up 2 --no-build', "-", COMMAND]
    return subprocess.run(line, env=cluster.environment(), capture_output=True, text=True, timeout=WAIT)


@pytest.mark.parametrize("changes, says", [
    ("mount --bind /bin/false /usr/sbin/munged; ", "munged does not start"),
    (DAEMON.format("echo no configuration >&2; exit 3"), "stillpointd does not start: no configuration")])
def test_failed_up_leaves_nothing(changes, says):
    cluster = Cluster(f"{NAME}-3")
    done = up_with(cluster, changes)
    assert done.returncode == 1 and done.stderr.strip() == f"testbed: n1 does not boot: {says}", done
    assert not traces(cluster.name)


def test_daemon_runs_on_every_node():
    with Cluster(f"{NAME}-4") as cluster:
        assert up_with(cluster, DAEMON.format('echo serves >&2; sleep infinity > /dev/null 2>&1 &')).returncode == 0
        for node in ("n1", "n2"):
            assert said(cluster, node, "cat", "/var/log/stillpointd.log") == "serves"
            assert said(cluster, node, "pgrep", "-fc", "sleep infinity") == "2"  # it, and that of pid 1
