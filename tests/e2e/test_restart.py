"""Restarts, in all the ways in which people name a checkpoint and in which a machine can have changed since."""
import os
import pathlib
import subprocess

import pytest

from stillpoint_testing import BUSY, STILLPOINT, STOPPED, heat2d, program, ring

SLOW = dict(size=48, every=4, delay=10)


def checkpointed(work, count=150, user=None, **more):
    """A job that was checkpointed once and killed, and what an uninterrupted run prints."""
    options = dict(SLOW, iterations=count)
    expected = work.result_of(heat2d(**dict(options, delay=0)), ranks=2, user=user)
    job = work.run(heat2d(**options), ranks=2, user=user, **more).started()
    job.wait_for("iteration 20 ")
    taken = job.checkpoint()
    return job, taken, expected


def whole(work, job, taken, rest):
    return job.out[:work.stdout_before(taken["path"])] + rest


def test_twice_from_the_same_checkpoint(work):
    job, taken, expected = checkpointed(work)
    job.kill_all()
    before = {path: path.read_bytes() for path in pathlib.Path(taken["path"]).iterdir()}
    for _ in range(2):
        assert whole(work, job, taken, work.restart(taken["path"]).wait()) == expected
    after = {path: path.read_bytes() for path in pathlib.Path(taken["path"]).iterdir()}
    assert before == after, "a restart changed the checkpoint"


def test_restart_checkpoint_restart(work):
    """Four generations of a job; each prints what the one before it had not yet printed at the checkpoint."""
    job, taken, expected = checkpointed(work, count=250)
    job.kill_all()
    out = job.out[:work.stdout_before(taken["path"])]
    for _ in range(3):
        again = work.restart(taken["path"]).started()
        again.wait_for("iteration")
        previous, taken = taken, again.checkpoint()
        assert taken["epoch"] > previous["epoch"]
        assert work.inspect(taken["path"])["restarted_from"] == previous["epoch"]
        again.kill_all()
        out += again.out[:work.stdout_before(taken["path"])]  # of the run that took the checkpoint
    assert out + work.restart(taken["path"]).wait() == expected


def test_restart_while_the_original_runs_is_refused(work):
    job, taken, expected = checkpointed(work, count=200)
    for name in (taken["path"], job.name):
        work.refused("restart", name, status=BUSY, says=job.name)
    assert job.wait() == expected
    assert whole(work, job, taken, work.restart(taken["path"]).wait()) == expected


def test_two_restarts_at_once(work):
    """One of them wins; the other is refused and does the first no harm."""
    job, taken, expected = checkpointed(work)
    job.kill_all()
    one = work.restart(taken["path"]).started()
    work.refused("restart", taken["path"], status=BUSY, says=job.name)
    assert whole(work, job, taken, one.wait()) == expected


def test_names_of_a_checkpoint(work):
    job, taken, expected = checkpointed(work)
    job.kill_all()
    epoch = pathlib.Path(taken["path"])
    for name in (epoch, epoch / "manifest.h5", epoch.parent, epoch.parent / "latest", job.name,
                 os.path.relpath(epoch, work.path)):
        assert whole(work, job, taken, work.restart(name).wait()) == expected, name


def test_moved_directory(work):
    """Checkpoints may be copied elsewhere and restarted from there."""
    job, taken, expected = checkpointed(work)
    job.kill_all()
    moved = work.path / "archive"
    before = work.stdout_before(taken["path"])
    work.checkpoints.rename(moved)
    rest = work.restart(job.name, "--checkpoint-dir", moved).wait()
    assert job.out[:before] + rest == expected


REBOOTED = """
mount -t tmpfs run /run
mount -t tmpfs shm /dev/shm
mkdir -p {path}/new-disk
mount -t tmpfs new {path}/new-disk
hostname another
for i in $(seq 500); do :& done; wait
exec "$@"
"""


def test_after_a_reboot(work):
    """Other process numbers, other mounts in another order, another host name, empty /run and /dev/shm."""
    job, taken, expected = checkpointed(work)
    job.kill_all()
    script = REBOOTED.format(path=work.path)
    done = subprocess.run(["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child",
                           "bash", "-ec", script, "-", STILLPOINT, "restart", taken["path"]], cwd=work.path,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=120, env=work.environment())
    assert done.returncode == 0, done.stderr.decode()
    assert whole(work, job, taken, done.stdout) == expected


def test_restarted_job_keeps_its_settings(work):
    """The interval, what is kept, name, user and directory come from the checkpoint, unless given anew."""
    app = heat2d(**dict(SLOW, iterations=600))
    job = work.run(app, "--checkpoint-interval", "1s", "--name", "settings", ranks=2, user="physicist", keep=3).started()
    job.wait_for("checkpoint 1 of settings is permanent", "err")
    job.kill_all()
    again = work.restart("settings", user="physicist").started()
    assert again.name == "settings"
    facts = again.status()
    assert facts["user"] == "physicist" and facts["interval_ms"] == 1000
    again.wait_for("checkpoint [0-9]+ of settings is permanent(.|\n)*is permanent", "err")
    again.kill_all()
    third = work.restart("settings", "--checkpoint-interval", "2h", "--checkpoint-keep", 1, user="physicist").started()
    assert third.status()["interval_ms"] == 2 * 3600 * 1000
    newest = third.checkpoint()["epoch"]
    assert work.epochs("settings") == [newest]
    third.kill_all()


def test_checkpoint_and_stop(work):
    """`checkpoint --stop` ends the job once its checkpoint is permanent; nothing that it printed is lost."""
    job, _, expected = checkpointed(work, count=200)
    taken = job.checkpoint("--stop")
    job.wait(status=STOPPED)
    assert len(job.out) == work.stdout_before(taken["path"])
    assert job.out + work.restart(job.name).wait() == expected


def test_stopped_while_it_prints(work):
    """What a job prints around `checkpoint --stop` is printed once: by the stopped job or by the restarted one."""
    app, ranks = program("numbers", 200000, 1), 3
    expected = by_rank(work.result_of(app, ranks=ranks))
    out, job = b"", work.run(app, ranks=ranks).started()
    for _ in range(3):
        job.wait_for("00 ")
        taken = job.checkpoint("--stop")
        job.wait(status=STOPPED)
        assert len(job.out) == work.stdout_before(taken["path"])
        out += job.out
        job = work.restart(job.name).started()
    assert by_rank(out + job.wait()) == expected


def by_rank(lines):
    """Each rank's lines in their order; that between ranks is nobody's promise."""
    return sorted(lines.splitlines(), key=lambda line: line.split(b":")[0])


def test_messages_under_way(work):
    """Large messages in both directions while the checkpoint comes, many times, each restarted once."""
    options = dict(bytes=4 << 20, iterations=60, every=1)
    expected = work.result_of(ring(**options), ranks=3)
    job = work.run(ring(**dict(options, delay=20)), ranks=3).started()
    taken = [job.checkpoint() for _ in range(3)]
    job.kill_all()
    for one in taken:
        assert whole(work, job, one, work.restart(one["path"]).wait()) == expected


@pytest.mark.parametrize("signal_name", ["SIGUSR1", "SIGTERM"])
def test_signals_reach_a_restarted_job(work, signal_name):
    job = work.run(program("signals"), ranks=2).started()
    job.wait_for("ready")
    taken = job.checkpoint()
    job.kill_all()
    again = work.restart(taken["path"]).started()
    agent = again.status()["agent_pid"]
    subprocess.run(["kill", "-s", signal_name, str(agent)], check=True)
    again.wait_for(f"rank 0: {signal_name}")
    again.wait_for(f"rank 1: {signal_name}")
    if signal_name != "SIGTERM":
        subprocess.run(["kill", "-s", "TERM", str(agent)], check=True)
    again.wait(status=0)
