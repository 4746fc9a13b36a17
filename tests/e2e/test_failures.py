"""Checkpoints that fail: the job runs on untouched, its user is told why, nothing tentative stays, and the next
attempt succeeds once the cause is gone."""
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

import leftovers
from stillpoint_testing import DAMAGED, FLIP, NOT_FOUND, NO_SPACE, PERMISSION, STOPPED, heat2d, program, wait_until

APP = dict(size=64, iterations=300, every=5)


class Trial:
    """A job whose checkpoint fails and, later, does not."""

    def __init__(self, work, *options, user=None, memory=8, delay=20, env=None, ranks=2):
        self.work = work
        self.expected = work.result_of(heat2d(**APP), ranks=ranks, user=user)
        self.job = work.run(heat2d(**APP, delay=delay, memory=memory), *options, ranks=ranks, user=user, env=env)
        self.job.started().wait_for("iteration 5 ")

    def fails(self, statuses, *says):
        """Takes a checkpoint that must fail so, and sees the job go on."""
        done = self.work.command("checkpoint", self.job.name, "--json", user=self.job.user, status=None)
        self.failed(done, statuses, *says)

    def failed(self, done, statuses, *says):
        assert done.status in (statuses if isinstance(statuses, tuple) else (statuses,)), done
        assert len(done.complaints) == 1, done
        for words in says:
            assert words in done.complaints[0], f"'{words}' expected\n{done}"
        assert self.work.tentative() == [], "tentative files after the failure"
        assert self.job.status()["phase"] == "running"
        self.goes_on()

    def goes_on(self):
        lines = self.job.out.count(b"\n")
        wait_until(lambda: self.job.out.count(b"\n") > lines, f"the job to go on\n{self.job.story()}")

    def succeeds(self):
        """A checkpoint, the end of the job with it, and a restart: nothing of what failed before is to be seen."""
        taken = self.job.checkpoint("--stop")
        self.job.wait(status=STOPPED)
        assert len(self.job.out) == self.work.stdout_before(taken["path"])
        assert self.job.out + self.work.restart(taken["path"], user=self.job.user).wait() == self.expected


def resize(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def staged(directory):
    return sorted(str(path) for path in directory.rglob("*") if path.is_file())


def test_no_space_in_staging(work):
    disk = work.small_disk("staging", 1024)
    trial = Trial(work, "--staging", disk)
    trial.fails(NO_SPACE, "space")
    wait_until(lambda: staged(disk) == [], "staging to be freed")
    resize(disk, "300m")
    trial.succeeds()
    wait_until(lambda: staged(disk) == [], "staging to be freed")


@pytest.mark.parametrize("user", [None, "physicist"], ids=["root", "physicist"])
def test_no_space_for_the_checkpoint(work, user):
    disk = work.small_disk("disk", 512, user)
    trial = Trial(work, "--checkpoint-dir", disk, user=user)
    trial.fails(NO_SPACE, str(disk))
    resize(disk, "100m")
    trial.succeeds()


def test_no_space_is_told_and_tried_again_at_every_interval(work):
    disk = work.small_disk("disk", 512)
    trial = Trial(work, "--checkpoint-dir", disk, "--checkpoint-interval", "1s")
    trial.job.wait_for(r"(stillpoint: .*[Nn]o space(.|\n)*){2}", "err")
    assert trial.job.status()["latest_epoch"] == 0
    assert "space" in trial.job.status()["last_failure"]
    resize(disk, "300m")
    trial.job.wait_for("is permanent", "err")
    assert trial.job.status()["last_failure"] == ""
    assert trial.job.wait() == trial.expected


def test_no_permission(work):
    directory = work.directory("mine", "physicist")
    trial = Trial(work, "--checkpoint-dir", directory, user="physicist")
    jobs = next(directory.glob("*.0"), directory)
    jobs.chmod(0o555)
    directory.chmod(0o555)
    trial.fails(PERMISSION, str(directory))
    directory.chmod(0o755)
    jobs.chmod(0o755)
    trial.succeeds()


def test_read_only_file_system(work):
    disk = work.small_disk("disk", 100000)
    trial = Trial(work, "--checkpoint-dir", disk)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
    trial.fails(PERMISSION, str(disk))
    subprocess.run(["mount", "-o", "remount,bind,rw", disk], check=True)
    trial.succeeds()


def test_vanished_directory(work):
    directory = work.directory("gone")
    trial = Trial(work, "--checkpoint-dir", directory)
    trial.job.checkpoint()
    shutil.rmtree(directory)
    trial.fails(NOT_FOUND, str(directory))
    assert not directory.exists(), "the directory that the user removed is back"
    directory.mkdir()
    trial.succeeds()


def test_criu_killed_in_mid_dump(work):
    staging = pathlib.Path("/dev/shm/stillpoint-test-staging")
    trial = Trial(work, "--staging", staging, memory=150)
    agent = trial.job.status()["agent_pid"]
    for _ in range(2):
        attempt = work.in_background("checkpoint", trial.job.name, "--json")
        criu = wait_until(lambda: dumping(agent, staging, attempt), "CRIU to write pages", step=0.001)
        os.kill(criu, signal.SIGKILL)
        trial.failed(attempt.finish(None), (69, 70, 71, 74), "CRIU")
        wait_until(lambda: staged(staging) == [], "staging to be freed")
    trial.succeeds()
    staging.rmdir()


def dumping(agent, staging, attempt):
    """CRIU's process, once it is copying the memory of a rank."""
    assert attempt.process.poll() is None, attempt.finish(None)
    pages = sum(path.stat().st_size for path in staging.rglob("pages-*.img"))
    if pages < 40 << 20:
        return None
    return next((pid for pid in leftovers.descendants(agent)
                 if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "criu"), None)


def test_statefile_damaged_on_its_way_to_the_disk(work):
    """What is written is read back and checked before it counts."""
    fault = work.file("fault-on")
    trial = Trial(work, env={"LD_PRELOAD": str(FLIP), "STILLPOINT_FAULT_FLIP": str(fault),
                             "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")})
    trial.fails(DAMAGED, "c0.h5")
    assert work.epochs(trial.job.name) == []
    fault.unlink()
    trial.succeeds()


def test_what_cannot_be_dumped_is_named_before_the_dump(work):
    job = work.run(program("descriptors", "io_uring", "GO"), ranks=2).started()
    job.wait_for("holding io_uring")
    done = job.checkpoint(status=69)
    assert len(done.complaints) == 1 and "io_uring" in done.err and "descriptors" in done.err, done
    assert work.tentative() == []
    work.file("GO")
    assert job.wait() == b"holding io_uring\nio_uring kept\n"


def test_a_failure_leaves_the_older_checkpoint(work):
    disk = work.small_disk("disk", 100000)
    trial = Trial(work, "--checkpoint-dir", disk, memory=4)
    first = trial.job.checkpoint()
    used = int(subprocess.check_output(["df", "--output=used", "-k", disk]).split()[-1])
    resize(disk, f"{used + 64}k")
    trial.fails(NO_SPACE, str(disk))
    work.command("verify", first["path"])
    latest = pathlib.Path(first["path"]).parent / "latest"
    assert os.readlink(latest) == str(first["epoch"])
    resize(disk, "100m")
    trial.succeeds()
