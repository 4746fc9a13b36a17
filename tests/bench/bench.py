"""Speed beside the same work by hand: criu, zstd and mpirun.  Every figure is a median of ROUNDS, taken in turn."""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

EXAMPLES = pathlib.Path("/opt/stillpoint/libexec/stillpoint/examples")
JOB = f"bench-{os.getpid()}"


def output_of(*command, **more):
    return subprocess.run(command, check=True, text=True, capture_output=True, **more).stdout


def timed(*command, **more):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    return time.monotonic() - start


def row(what, ours, theirs, target, unit="s"):
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{what:34} {a:9.3f} {unit}  by hand {b:9.3f} {unit}  ratio {a / b:5.2f}  (target {target})", flush=True)


class Peak(threading.Thread):
    """The largest resident memory of any of our processes: agent, guard, workers; not CRIU, nor the job."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.done = 0, False

    def run(self):
        while not self.done:
            for status in pathlib.Path("/proc").glob("[0-9]*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue
                if text.startswith("Name:\tstillpoint\n") and "VmHWM:" in text:
                    self.most = max(self.most, int(text.split("VmHWM:")[1].split()[0]) << 10)
            time.sleep(0.02)


class Job:
    """4 ranks of heat2d with so much memory, for as long as the bench lasts."""

    def __init__(self, work, megabytes, iterations="100000000"):
        self.work = work
        self.errors = open(work / "job.err", "w+")
        self.process = subprocess.Popen(
            ["stillpoint", "run", "-n", "4", "--name", JOB, EXAMPLES / "heat2d", "--size", "400", "--delay", "1",
             "--iterations", iterations, "--memory", str(megabytes)],
            cwd=work, stdout=subprocess.DEVNULL, stderr=self.errors)
        wanted = 4 * megabytes << 20
        self.wait(lambda: sum(r["memory"] for r in self.status()["rank"]) > wanted, "the job to fill its memory")

    def wait(self, condition, what, seconds=60):
        for _ in range(seconds * 10):
            try:
                if condition():
                    return
            except (subprocess.CalledProcessError, IndexError):
                pass
            time.sleep(0.1)
        sys.exit(f"bench: waited {seconds} s for {what}")

    def status(self):
        return json.loads(output_of("stillpoint", "status", JOB, "--json"))["jobs"][0]

    def checkpoint(self):
        return json.loads(output_of("stillpoint", "checkpoint", JOB, "--json", cwd=self.work))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def criu_options(init, images):
    mounts = [line.split()[4] for line in open(f"/proc/{init}/mountinfo")]
    private = ("/proc", "/sys", "/dev", "/run")
    real = [m for m in mounts if m != "/" and not m.startswith(private)]
    return real, ["-D", images, "--tcp-established", "--file-locks", "--manage-cgroups=ignore", "--network-lock", "skip",
                  "--ghost-limit", "4G"]


def dump_by_hand(init, images):
    """criu dump as facts go, with the cgroup frozen around it: seconds that the job stood still."""
    shutil.rmtree(images, ignore_errors=True)
    os.makedirs(images)
    group = next(line.strip().split("::")[1] for line in open(f"/proc/{init}/cgroup") if line.startswith("0::"))
    root = next(line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line)
    group = root + group
    real, options = criu_options(init, images)
    network = os.stat(f"/proc/{init}/ns/net").st_ino
    command = ["criu", "dump", "-t", str(init), "--leave-running", "-o", "dump.log", "--freeze-cgroup", group,
               "--external", f"net[{network}]:network", *options]
    for mount in real:
        command += ["--external", f"mnt[{mount}]:{mount}"]
    start = time.monotonic()
    pathlib.Path(group, "cgroup.freeze").write_text("1")
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    finally:
        pathlib.Path(group, "cgroup.freeze").write_text("0")
    return time.monotonic() - start


def restore_by_hand(images, real):
    """criu restore alone, of images that are there: seconds until it returns.  Ends what it restored."""
    script = """
mkdir -p /run/stillpoint/root; mount --bind / /run/stillpoint/root; mount --make-private /run/stillpoint/root
ip link set lo up
exec {net}< /proc/self/ns/net
start=$(date +%s.%N)
criu restore -d -o restore.log --pidfile "$1/pid" --root /run/stillpoint/root --inherit-fd "fd[$net]:network" "${@:2}" || exit 1
end=$(date +%s.%N)
kill -9 $(cat "$1/pid")
echo "$start $end"
"""
    _, options = criu_options(os.getpid(), images)
    for mount in real:
        options += ["--external", f"mnt[{mount}]:{mount}"]
    pathlib.Path(images, "pid").unlink(missing_ok=True)
    told = output_of("unshare", "-m", "-n", "--propagation", "private", "bash", "-c", script, "bash", images, *options)
    start, end = told.split()
    return float(end) - float(start)


def restart_time(work):
    """Seconds from the call of `stillpoint restart` until the job runs again."""
    start = time.monotonic()
    process = subprocess.Popen(["stillpoint", "restart", JOB], cwd=work, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL)
    for line in process.stderr:
        if "restarted from checkpoint" in line:
            took = time.monotonic() - start
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            process.wait(30)
            return took
    sys.exit("bench: the restart failed")


def bench_start(rounds):
    hello = [EXAMPLES / "heat2d", "--size", "16", "--iterations", "1"]
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "4", *hello]
    ours, theirs = [], []
    for _ in range(rounds + 1):
        theirs.append(timed(*mpirun))
        ours.append(timed("stillpoint", "run", "-n", "4", *hello))
    row("start of 4 ranks, to the end", ours[1:], theirs[1:], "1.2, mpirun -n 4")


def bench_checkpoint(work, megabytes, rounds):
    peak = Peak()
    peak.start()
    job = Job(work, megabytes)
    hand_images = f"/dev/shm/bench-{os.getpid()}"
    ours, hand, pack, zstd, sizes = [], [], [], [], []
    try:
        for _ in range(rounds):
            hand.append(dump_by_hand(job.status()["init_pid"], hand_images))
            done = job.checkpoint()
            ours.append(done["stop_ms"] / 1000)
            manifest = json.loads(output_of("stillpoint", "inspect", done["path"], "--json"))
            pack.append(manifest["times"]["pack"] / 1000)
            images = sorted(map(str, pathlib.Path(hand_images).glob("*.img")))
            target = work / "by-hand.zst"
            zstd.append(timed("sh", "-c", f"cat {' '.join(images)} | zstd -q -f -T0 -1 -o {target} && sync {target}"))
            sizes.append((done["stored_bytes"], target.stat().st_size))
        real, _ = criu_options(job.status()["init_pid"], hand_images)
    finally:
        job.end()
    row("job stands still", ours, hand, "1.25, criu dump")
    row("packing, with reading back", pack, zstd, "1.25, zstd -T0 -1 and sync")
    row("size of the statefile", [a / 2**20 for a, _ in sizes], [b / 2**20 for _, b in sizes], "1.02", "MiB")

    ours, hand = [], []
    try:
        for _ in range(rounds):
            hand.append(restore_by_hand(hand_images, real))
            ours.append(restart_time(work))
    finally:
        shutil.rmtree(hand_images, ignore_errors=True)
    row("restart, with reading", ours, hand, "1.5 plus reading, criu restore")
    peak.done = True
    print(f"largest of our processes           {peak.most / 2**20:9.1f} MiB                      (target 256)")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=256, help="memory of each of the 4 ranks")
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="stillpoint-bench."))
    try:
        bench_start(arguments.rounds)
        bench_checkpoint(work, arguments.megabytes, arguments.rounds)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
