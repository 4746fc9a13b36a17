"""Drives tests/testbed/cluster: boots nodes, runs commands in them, cuts their power and their network."""
import os
import pathlib
import subprocess

from stillpoint_testing import WAIT, wait_until

COMMAND = pathlib.Path(__file__).resolve().parent.parent / "testbed/cluster"
SHARED = pathlib.Path("/shared")  # the directory that stands for the parallel file system, as all nodes see it


class Cluster:
    """A cluster of its own name, from up() to down().  As a context manager it goes down in the end."""

    def __init__(self, name):
        self.name = name
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    @property
    def state(self):
        return pathlib.Path(f"/tmp/stillpoint-cluster-{self.name}")

    @property
    def shared(self):
        """SHARED as this machine sees it."""
        return self.state / "shared"

    def environment(self):
        return os.environ | {"STILLPOINT_CLUSTER": self.name}

    def call(self, *args, status=0, timeout=None, **more):
        """Calls `cluster ARGS` and waits for its end; a CompletedProcess of text.  status: what it must be; None: any."""
        line = [str(COMMAND), *map(str, args)]
        try:
            done = subprocess.run(line, capture_output=True, text=True, errors="replace", env=self.environment(),
                                  timeout=timeout or WAIT, **{"stdin": subprocess.DEVNULL} | more)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"waited {late.timeout:.0f} s for the end of {' '.join(line)}\n"
                                 f"  stdout: {late.stdout}\n  stderr: {late.stderr}") from None
        assert status is None or done.returncode == status, (
            f"{' '.join(line)}\n  status {done.returncode} instead of {status}\n"
            f"  stdout: {done.stdout}\n  stderr: {done.stderr}")
        return done

    def refused(self, *args, says):
        """A call that must fail and say why in one line."""
        done = self.call(*args, status=1)
        lines = done.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("testbed: ") and says in lines[0], done

    def up(self, nodes, uptime=None):
        """Boots n1, n2, ...; uptime: how long ago they booted by their own clocks, {node: seconds}."""
        uptimes = [part for node, seconds in (uptime or {}).items() for part in ("--uptime", f"{node}={seconds}")]
        self.call("up", nodes, *uptimes, timeout=4 * WAIT)

    def down(self):
        self.call("down")
        for process in self.processes:
            process.wait(WAIT)

    @staticmethod
    def _command(node, args, user, cwd):
        return ["exec", node, *(["--user", user] if user else []), "env", "--chdir", str(cwd), *map(str, args)]

    def exec(self, node, *args, user=None, cwd="/", **more):
        """Runs a command in the node; as call()."""
        return self.call(*self._command(node, args, user, cwd), **more)

    def popen(self, node, *args, user=None, cwd="/", **more):
        """Starts a command in the node.  Signals sent to what comes back reach it."""
        self.processes.append(subprocess.Popen([str(COMMAND), *self._command(node, args, user, cwd)],
                                               env=self.environment(), **{"stdin": subprocess.DEVNULL} | more))
        return self.processes[-1]

    def kill(self, node):
        """Its power is cut."""
        self.call("kill", node)

    def start(self, node):
        self.call("start", node)

    def cut(self, node):
        self.call("cut", node)

    def heal(self, node):
        self.call("heal", node)

    def slow(self, node, factor="off"):
        self.call("slow", node, factor)

    def status(self):
        """What each node is: {"n1": "up, pid 4711, cut off", "n2": "down"}."""
        lines = [line.split(" ", 2) for line in self.call("status").stdout.splitlines()]
        return {node: said for node, _, said in lines}

    def reach(self, here, there, timeout=2):
        """Whether a packet gets from one node to the other and one back: nothing listens there, so that it says no at
        once; or there is silence.  Any error but these two fails."""
        script = ("import socket\n"
                  f"try: socket.create_connection(('{there}', 9), {timeout})\n"
                  "except ConnectionRefusedError: print('yes')\n"
                  "except TimeoutError: print('no')\n")
        return {"yes": True, "no": False}[self.exec(here, "python3", "-c", script).stdout.strip()]

    def wait_for_file(self, name, pattern):
        """Until the text is in a file of the shared directory; the file's bytes."""
        path = self.shared / name
        wait_until(lambda: path.exists() and pattern in path.read_bytes(), f"{pattern} in {path}")
        return path.read_bytes()
