"""Jobs over the nodes of a cluster, driven as stillpoint_testing drives those of one machine."""
import json
import os
import pathlib
import shutil

from cluster_testing import COMMAND, SHARED
from stillpoint_testing import STILLPOINT, Job, Work, wait_until

USER = "physicist"

# What must be on no node between two tests: jobs, their processes and cgroups, staging, frozen tasks, tunnels.
LOOK = r"""
ls /run/stillpoint/jobs 2> /dev/null | sed 's/^/job /'
ls -d /dev/shm/stillpoint* 2> /dev/null | sed 's/^/staging /'
for pid in $(ls /proc | grep '^[0-9]*$'); do
  name=$(cat /proc/$pid/comm 2> /dev/null) || continue
  grep -q '^State:.Z' /proc/$pid/status 2> /dev/null && continue
  case $name in stillpointd) [ $(cat /run/stillpoint/stillpointd.lock) = $pid ] || echo "process $pid $name of a job" ;;
    stillpoint* | criu | heat2d | ring) echo "process $pid $name" ;; esac
done
ip -o link | grep -o 'mpi0[^:]*' | sed 's/^/device /'
nft list tables | grep -v 'inet stillpoint-tunnels' | sed 's/^/rules /'
"""


class NodesWork(Work):
    """A test's directory on the cluster's shared file system, and commands that are called on one of its nodes."""

    def __init__(self, cluster, name, seed):
        self.cluster, self.inside = cluster, SHARED / name
        super().__init__(cluster.shared / name, seed)
        self.path.mkdir()
        self.path.chmod(0o1777)
        self.node = "n1"  # where commands are called

    def seen(self, path):
        """A path of the nodes as this machine sees it."""
        return self.cluster.shared / pathlib.Path(path).relative_to(SHARED)

    def environment(self, more=None):
        return super().environment({"STILLPOINT_CLUSTER": self.cluster.name} | (more or {}))

    def on_node(self, line, user, node=None):
        return [str(COMMAND), "exec", node or self.node, *(["--user", user] if user else []), "env", "--chdir",
                str(self.inside), *line]

    def as_called(self, user, line):
        return self.on_node(line, user or USER)

    def run_on(self, hosts, app, *options, ranks, **more):
        return self.run(app, "--hosts", ",".join(hosts), *options, ranks=ranks, **more)

    def restart_on(self, hosts, checkpoint, *options, **more):
        return self.restart(checkpoint, "--hosts", ",".join(hosts), *options, **more)

    def epochs(self, job, directory=None):
        return super().epochs(job, directory or self.path / "stillpoint-checkpoints")

    def wait_gone(self, job):
        wait_until(lambda: not any(job in one for one in self.left()), f"job {job} to be off all nodes")

    def left(self):
        """What is on the nodes that are up."""
        found = []
        for node, said in self.cluster.status().items():
            if said.startswith("up"):
                done = self.cluster.exec(node, "sh", "-c", LOOK, status=None)
                found += [f"{node}: {line}" for line in done.stdout.splitlines()]
        groups = pathlib.Path("/sys/fs/cgroup")
        return found + [f"cgroup {path}" for path, _, _ in os.walk(groups)
                        if self.cluster.name in path and "/stillpoint-" in path]

    def pids(self, node, job, index):
        """The processes of a part: its agent's, and pid 1 of its container."""
        note = json.loads(self.cluster.exec(node, "cat", f"/run/stillpoint/jobs/{job}@{index}/job.json").stdout)
        return note["agent_pid"], note["cgroup"]

    def lead_pid(self, node, job):
        note = json.loads(self.cluster.exec(node, "cat", f"/run/stillpoint/jobs/{job}/job.json").stdout)
        return note["agent_pid"]

    def finish(self):
        super().finish()
        shutil.rmtree(self.path, ignore_errors=True)


__all__ = ["Job", "NodesWork", "STILLPOINT", "USER"]
