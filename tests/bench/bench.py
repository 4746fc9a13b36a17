"""Speed beside the same work by hand: criu, zstd and mpirun.  Every figure is a median of ROUNDS, taken in turn; what
was first in one round is second in the next.  Behind it, in brackets, the smallest and largest ratio of a round."""
import argparse
import atexit
import contextlib
import json
import os
import pathlib
import re
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
    ratios = [x / y for x, y in zip(ours, theirs)]
    print(f"{what:34} {a:9.3f} {unit}  by hand {b:9.3f} {unit}  ratio {a / b:5.2f}  [{min(ratios):.2f} to {max(ratios):.2f}]"
          f"  (target {target})", flush=True)


def same_start(megabytes):
    """Gives who is measured next memory that was in use a moment ago.  A virtual machine's host takes free memory back,
    and a page that it has to give again costs six times as much as another; which pages one gets is chance (each
    processor keeps some of those freed last).  So more is touched than anybody needs."""
    wanted = 3 * 4 * megabytes
    available = int(re.search(r"MemAvailable: *(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) >> 10
    piece = b"x" * (1 << 20)
    with tempfile.TemporaryFile(dir="/dev/shm", buffering=0) as file:
        for _ in range(min(wanted, available // 2)):
            file.write(piece)


def in_turn(round_number, ours, theirs):
    """What both answer, ours first."""
    if round_number % 2 == 0:
        second = theirs()
        return ours(), second
    first = ours()
    return first, theirs()


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


def cgroups():
    return pathlib.Path(next(line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line))


@contextlib.contextmanager
def frozen(group):
    """Two jobs share the machine; one of them stands still while the other is measured."""
    (group / "cgroup.freeze").write_text("1")
    try:
        yield
    finally:
        (group / "cgroup.freeze").write_text("0")


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

    def standing_still(self):
        return frozen(next(cgroups().rglob(f"stillpoint-{JOB}")))

    def staging(self):
        return pathlib.Path("/dev/shm/stillpoint", JOB)

    def checkpoint(self):
        return json.loads(output_of("stillpoint", "checkpoint", JOB, "--json", cwd=self.work))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


CONTAINER = """
mount --make-rprivate /
root=$1; mount --bind / $root
while read -r mount; do mount --bind $mount $root$mount; done <<< "$2"
mount -t proc proc $root/proc; mount -t sysfs sysfs $root/sys; mount -t tmpfs -o mode=755 dev $root/dev
mknod -m 666 $root/dev/null c 1 3; mknod -m 666 $root/dev/zero c 1 5; mknod -m 666 $root/dev/urandom c 1 9; mknod -m 666 $root/dev/random c 1 8
mkdir $root/dev/pts $root/dev/shm; mount -t devpts -o newinstance,ptmxmode=0666 devpts $root/dev/pts; ln -s pts/ptmx $root/dev/ptmx
mount -t tmpfs -o mode=1777 shm $root/dev/shm; mount -t tmpfs run $root/run; mkdir $root/run/old
ip link set lo up
cd $root; pivot_root . run/old; cd /; umount -l /run/old
exec 0</dev/null 1>/dev/null 2>/dev/null
TMPDIR=/dev/shm setsid "${@:3}"
"""


class ByHand:
    """The same job under mpirun in a container as stillpoint makes it, dumped and restored by calling criu."""

    def __init__(self, megabytes):
        self.images = f"/dev/shm/bench-{os.getpid()}"
        self.group = cgroups() / f"bench-{os.getpid()}"
        self.group.mkdir()
        self.root = tempfile.mkdtemp(prefix="stillpoint-bench-root.", dir="/run")
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
        self.mounts = [m for m in mounts if m != "/" and not m.startswith(("/proc", "/sys", "/dev", "/run"))]
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "4", EXAMPLES / "heat2d", "--size", "400", "--delay", "1",
                   "--iterations", "100000000", "--memory", str(megabytes)]
        self.process = subprocess.Popen(
            ["unshare", "-m", "-p", "-i", "-u", "-n", "-f", "--kill-child", "bash", "-ec", CONTAINER, "bash", self.root,
             "\n".join(self.mounts), *command], preexec_fn=lambda: (self.group / "cgroup.procs").write_text(str(os.getpid())))
        for _ in range(600):
            if self.memory() > 4 * megabytes << 20:
                break
            time.sleep(0.1)
        else:
            sys.exit("bench: waited 60 s for the job by hand to fill its memory")
        self.init = next(int(p) for p in self.pids() if pathlib.Path(f"/proc/{p}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1] == "1")
        # Out of the cgroup: unshare itself is not in the container.
        pathlib.Path(self.group.parent, "cgroup.procs").write_text(str(self.process.pid))

    def pids(self):
        return (self.group / "cgroup.procs").read_text().split()

    def memory(self):
        sizes = [pathlib.Path(f"/proc/{p}/statm").read_text().split()[1] for p in self.pids()]
        return sum(map(int, sizes)) * 4096

    def options(self, verb, log):
        options = ["criu", verb, "-D", self.images, "-o", log, "--tcp-established", "--file-locks", "--manage-cgroups=ignore",
                   "--network-lock", "skip", "--ghost-limit", "4G"]
        for mount in self.mounts:
            options += ["--external", f"mnt[{mount}]:{mount}"]
        return options

    def dump(self):
        """Seconds that the job stood still."""
        self.remove_images()
        os.makedirs(self.images)
        network = os.stat(f"/proc/{self.init}/ns/net").st_ino
        command = [*self.options("dump", "dump.log"), "-t", str(self.init), "--leave-running", "--freeze-cgroup", str(self.group),
                   "--external", f"net[{network}]:network"]
        start = time.monotonic()
        with frozen(self.group):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start

    def remove_images(self):
        shutil.rmtree(self.images, ignore_errors=True)

    def restore(self):
        """Seconds until criu returns.  Ends what was restored."""
        script = """
mount --bind / "$1"; mount --make-private "$1"; ip link set lo up
exec {net}< /proc/self/ns/net
start=$(date +%s.%N)
"${@:3}" -d --pidfile "$2/pid" --root "$1" --inherit-fd "fd[$net]:network"
end=$(date +%s.%N)
kill -9 $(cat "$2/pid")
echo "$start $end"
"""
        pathlib.Path(self.images, "pid").unlink(missing_ok=True)
        told = output_of("unshare", "-m", "-n", "--propagation", "private", "bash", "-ec", script, "bash", self.root, self.images,
                         *self.options("restore", "restore.log"))
        start, end = told.split()
        return float(end) - float(start)

    def end(self):
        (self.group / "cgroup.kill").write_text("1")
        self.process.wait(30)
        for _ in range(100):
            if "populated 0" in (self.group / "cgroup.events").read_text():
                break
            time.sleep(0.1)
        self.group.rmdir()
        os.rmdir(self.root)
        self.remove_images()


def seconds(text):
    value, unit = text.split()
    return float(value) / {"ms": 1000, "s": 1}[unit]


def restart(work):
    """Seconds from the call of `stillpoint restart` until the job runs again, and of that what was not reading the
    statefile and checking what was read."""
    start = time.monotonic()
    process = subprocess.Popen(["stillpoint", "restart", JOB], cwd=work, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL)
    for line in process.stderr:
        told = re.search(r"restarted from checkpoint .*reading ([^,]*), checking ([^,]*),", line)
        if told:
            took = time.monotonic() - start
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            process.wait(30)
            return took, took - seconds(told[1]) - seconds(told[2])
    sys.exit("bench: the restart failed")


def bench_start(rounds):
    hello = [EXAMPLES / "heat2d", "--size", "16", "--iterations", "1"]
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "4", *hello]
    took = [in_turn(i, lambda: timed("stillpoint", "run", "-n", "4", *hello), lambda: timed(*mpirun)) for i in range(rounds + 1)]
    row("start of 4 ranks, to the end", *zip(*took[1:]), "1.2, mpirun -n 4")


def bench_checkpoint(work, megabytes, rounds):
    peak = Peak()
    peak.start()
    job = Job(work, megabytes)
    atexit.register(job.end)
    by_hand = ByHand(megabytes)
    atexit.register(by_hand.end)
    target = work / "by-hand.zst"

    def our_checkpoint():
        by_hand.remove_images()
        same_start(megabytes)
        with frozen(by_hand.group):
            done = job.checkpoint()
        job.wait(lambda: not any(job.staging().iterdir()), "staging to be emptied")
        times = json.loads(output_of("stillpoint", "inspect", done["path"], "--json"))["times"]
        return done["stop_ms"] / 1000, times["pack"] / 1000, times["verify"] / 1000, done["stored_bytes"] / 2**20

    def checkpoint_by_hand():
        by_hand.remove_images()
        same_start(megabytes)
        with job.standing_still():
            still = by_hand.dump()
            images = " ".join(map(str, sorted(pathlib.Path(by_hand.images).glob("*.img"))))
            packing = timed("sh", "-c", f"cat {images} | zstd -q -f -T0 -1 -o {target} && sync {target}")
        return still, packing, packing, target.stat().st_size / 2**20

    ours, hand = zip(*(in_turn(i, our_checkpoint, checkpoint_by_hand) for i in range(rounds)))
    (still, pack, verify, size), (still_by_hand, zstd, _, size_by_hand) = zip(*ours), zip(*hand)
    row("job stands still", still, still_by_hand, "1.25, criu dump")
    row("writing the statefile", pack, zstd, "1.25, zstd -T0 -1 and sync")
    row("reading it back", verify, zstd, "none")
    row("size of the statefile", size, size_by_hand, "1.02", "MiB")

    with job.standing_still():
        by_hand.dump()  # what is restored
    job.end()
    (by_hand.group / "cgroup.kill").write_text("1")

    def our_restart():
        same_start(megabytes)
        return restart(work)

    def restore_by_hand():
        same_start(megabytes)
        return by_hand.restore()

    ours, hand = zip(*(in_turn(i, our_restart, restore_by_hand) for i in range(rounds)))
    whole, rest = zip(*ours)
    row("restart, but for reading", rest, hand, "1.5, criu restore")
    row("restart, with reading", whole, hand, "none")
    peak.done = True
    print(f"largest of our processes           {peak.most / 2**20:9.1f} MiB                      (target 256)")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
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
