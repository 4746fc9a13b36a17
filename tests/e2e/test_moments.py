"""Checkpoints of jobs that are in the middle of something."""
import time

import pytest

from stillpoint_testing import NOT_FOUND, program

# What the job does when the checkpoint comes: the program, its ranks, and what it prints when it has got there.  A
# "GO" among the arguments is the file that ends the wait.
MOMENTS = {
    "MPI_Recv": (program("receive", "GO"), 3, "waiting in MPI_Recv"),
    "MPI_Barrier": (program("barrier", "GO"), 4, "waiting in MPI_Barrier"),
    "MPI_Init": (program("init_wait", "GO"), 3, "entering MPI_Init"),
    "python": (program("python_ranks.py", "GO"), 3, "half way"),
    "pipe": (program("descriptors", "pipe", "GO"), 2, "holding"),
    "socketpair": (program("descriptors", "socketpair", "GO"), 2, "holding"),
    "eventfd": (program("descriptors", "eventfd", "GO"), 1, "holding"),
    "epoll": (program("descriptors", "epoll", "GO"), 1, "holding"),
    "timerfd": (program("descriptors", "timerfd", "GO"), 1, "holding"),
    "unlinked": (program("descriptors", "unlinked", "GO"), 1, "holding"),
    "memfd": (program("descriptors", "memfd", "GO"), 1, "holding"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_waiting(work, moment):
    app, ranks, ready = MOMENTS[moment]
    job = work.run(app, "-x", f"RANKS={ranks}", ranks=ranks).started()
    job.wait_for(ready)
    taken = job.checkpoint()
    assert job.process.poll() is None, job.story()
    go = work.file("GO")
    whole = job.wait()  # the job itself goes on as if nothing had been

    go.unlink()
    again = work.restart(taken["path"]).started()
    before = work.stdout_before(taken["path"])
    assert again.status()["ranks"] == ranks
    assert again.process.poll() is None, again.story()
    work.file("GO")
    assert whole[:before] + again.wait() == whole


def test_shell_pipeline(work):
    """Ranks that are no MPI programs, of several processes each."""
    go = work.file("GO")
    expected = sorted(work.result_of(program("pipeline.sh", "GO"), ranks=2).splitlines())
    go.unlink()
    job = work.run(program("pipeline.sh", "GO"), ranks=2).started()
    job.wait_for("half way(.|\n)*half way", "err")
    taken = job.checkpoint()
    job.kill_all()
    assert job.out == b""
    again = work.restart(taken["path"]).started()
    work.file("GO")
    assert sorted(again.wait().splitlines()) == expected and len(expected) == 2


def test_computing(work):
    """No MPI and no system call for seconds: the checkpoint comes all the same."""
    app = program("compute", 500)
    job = work.run(app, ranks=2).started()
    job.wait_for("computing")
    taken = job.checkpoint()
    assert b"computed" not in job.out
    whole = job.wait()
    assert whole[:work.stdout_before(taken["path"])] + work.restart(taken["path"]).wait() == whole


def test_openmp_threads(work):
    app = program("threads", 80)
    expected = work.result_of(app, ranks=2)
    job = work.run(app, ranks=2).started()
    job.wait_for("round 10:")
    taken = [job.checkpoint() for _ in range(2)]
    job.kill_all()
    for one in taken:
        assert job.out[:work.stdout_before(one["path"])] + work.restart(one["path"]).wait() == expected


def test_sleeping(work):
    """The monotonic clock of a restarted job goes on where it was."""
    jump = 4
    app = program("sleeper", 20, jump)
    job = work.run(app, ranks=2).started()
    job.wait_for("slept 5")
    taken = job.checkpoint()
    job.kill_all()
    time.sleep(jump + 0.5)  # the subject is a clock
    before = job.out[:work.stdout_before(taken["path"])]
    whole = before + work.restart(taken["path"]).wait()
    assert whole == b"".join(b"slept %d\n" % i for i in range(1, 21)) + b"the clock went on\n"


def test_before_and_after_mpi(work):
    """From the first moment to the last: checkpoints one after the other while a job starts, runs and ends."""
    app = program("numbers", 300, 100)
    expected = sorted(work.result_of(app, ranks=4).splitlines())
    job = work.run(app, ranks=4).started()
    taken = []
    while (done := work.command("checkpoint", job.name, "--json", status=None)).status == 0:
        taken.append(done.json)
    assert sorted(job.wait().splitlines()) == expected, done
    assert taken and done.status == NOT_FOUND, done  # none failed but the one that came too late
    for one in {taken[0]["epoch"]: taken[0], taken[-1]["epoch"]: taken[-1]}.values():
        whole = job.out[:work.stdout_before(one["path"])] + work.restart(one["path"]).wait()
        assert sorted(whole.splitlines()) == expected


def test_files_in_shared_memory(work):
    """Files in /dev/shm go with the job; 100 MB of them do not hold it still for seconds."""
    app = ["/bin/bash", "-c", "head -c 100000000 /dev/urandom > /dev/shm/file; sha256sum /dev/shm/file; "
           "while [ ! -e GO ]; do sleep 0.1; done; sha256sum /dev/shm/file; stat -c '%s %a' /dev/shm/file"]
    job = work.run(app).started()
    job.wait_for("/dev/shm/file\n")
    taken = job.checkpoint()
    job.kill_all()
    first = job.out[:work.stdout_before(taken["path"])]
    restarted = work.restart(taken["path"]).started()
    work.file("GO")
    assert restarted.wait() == first + b"100000000 644\n" and first
    images = work.command("inspect", taken["path"], "--json").json["containers"][0]["images"]
    saved = max(image["size"] for image in images if image["name"].startswith("tmpfs-dev-"))
    assert saved > 100000000, "compressed while the job stood still"
