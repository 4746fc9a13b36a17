"""Drives the installed commands as a user does: starts jobs, waits for what they print, checkpoints, kills and
restarts them.  Every wait is bounded and says what it waited for."""
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import subprocess
import time

import leftovers

STILLPOINT = shutil.which("stillpoint") or "/opt/stillpoint/bin/stillpoint"
PREFIX = pathlib.Path(STILLPOINT).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("STILLPOINT_BUILD", "/build"))
EXAMPLES = PREFIX / "libexec/stillpoint/examples"
PROGRAMS = BUILD / "tests/programs"
FLIP = BUILD / "tests/fault/flip.so"
FORGE = BUILD / "tests/fault/forge"
WAIT = 60 * float(os.environ.get("STILLPOINT_TEST_PATIENCE", "1"))  # seconds; sanitizers and valgrind want more

USAGE, DAMAGED, NOT_FOUND, UNFIT, SYSTEM, NO_SPACE, BUSY, PERMISSION = 64, 65, 66, 69, 71, 73, 75, 77
STOPPED = 85  # the job was ended on purpose, by `checkpoint --stop`


def heat2d(**options):
    return [str(EXAMPLES / "heat2d"), *_options(options)]


def ring(**options):
    return [str(EXAMPLES / "ring"), *_options(options)]


def program(name, *args):
    return [str(PROGRAMS / name), *map(str, args)]


def _options(options):
    return [part for name, value in options.items() for part in ("--" + name, str(value))]


def wait_until(condition, what, timeout=None, step=0.02):
    """Returns the first true value of condition()."""
    end = time.monotonic() + (timeout or WAIT)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout or WAIT:.0f} s for {what}")
        time.sleep(step)


def as_user(user, command):
    """The command as `user` would call it; with sudo where it needs that.  None: as root."""
    if user is None:
        return list(command)
    sudo = ["sudo", "-n", "--preserve-env=PATH"] if command[1:2] in (["run"], ["restart"]) else []
    return ["runuser", "-u", user, "--", *sudo, *command]


class Done:
    """A command that has ended."""

    def __init__(self, command, status, out, err):
        self.command, self.status, self.out, self.err = command, status, out, err

    def __repr__(self):
        return f"{' '.join(self.command)}\n  status {self.status}\n  stdout: {self.out}\n  stderr: {self.err}"

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def complaints(self):
        """Our own lines on stderr, without news of progress and of sudo."""
        return [line for line in self.err.splitlines() if line.startswith("stillpoint")]


class Background:
    """A command that runs while the test does something else."""

    def __init__(self, work, line):
        self.line = line
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        cwd=work.path, env=work.environment())
        work.backgrounds.append(self)

    def finish(self, status=0):
        out, err = self.process.communicate(timeout=WAIT)
        done = Done(self.line, self.process.returncode, out.decode(), err.decode(errors="replace"))
        assert status is None or done.status == status, f"status {status} expected\n{done}"
        return done


class Job:
    """A `stillpoint run` or `restart` in the background, its output in files."""

    def __init__(self, work, command, user, env, stdin, label):
        self.work, self.user = work, user
        self.out_path, self.err_path = work.path / f"{label}.out", work.path / f"{label}.err"
        self.command = work.as_called(user, command)
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(self.command, stdin=stdin, stdout=out, stderr=err, cwd=work.path,
                                            env=work.environment(env), start_new_session=True)
        self.name = None

    @property
    def out(self):
        return self.out_path.read_bytes()

    @property
    def err(self):
        return self.err_path.read_text(errors="replace")

    def story(self):
        return (f"{' '.join(self.command)}\n  status {self.process.poll()}\n  stdout: {self.out[-1500:]!r}\n"
                f"  stderr: {self.err[-3000:]}")

    def wait_for(self, pattern, where="out", timeout=None):
        """Until the pattern (a regular expression) is in the output; fails at once if the job ends without it."""
        def found():
            ended = self.process.poll() is not None
            match = re.search(pattern, self.out.decode(errors="replace") if where == "out" else self.err)
            assert match or not ended, f"ended without '{pattern}' on std{where}\n{self.story()}"
            return match
        try:
            return wait_until(found, f"'{pattern}' on std{where}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def started(self):
        """Waits until the job says its name; returns the job."""
        self.name = self.wait_for(r"stillpoint: job (\S+) (?:started|restarted)", "err").group(1).rstrip(",")
        return self

    def status(self):
        jobs = self.work.command("status", self.name, "--json").json["jobs"]
        assert [job["job"] for job in jobs] == [self.name]
        return jobs[0]

    def checkpoint(self, *options, status=0):
        """Takes a checkpoint; what `checkpoint --json` says."""
        done = self.work.command("checkpoint", self.name, "--json", *options, user=self.user, status=status)
        if status:
            return done
        taken = done.json
        assert taken["job"] == self.name, done
        assert (self.work.seen(taken["path"]) / "manifest.h5").exists(), done
        return taken

    def kill_all(self):
        """SIGKILL for the container's pid 1, which takes the container along, and for the agent, in random order,
        as for all that were started for it.  Then waits until the job is off the node."""
        facts = self.status()
        pids = [facts["agent_pid"], facts["init_pid"]]
        self.work.random.shuffle(pids)
        for pid in pids:
            _kill(pid)
        self.process.wait(WAIT)
        self.work.wait_gone(self.name)

    def wait(self, status=0, timeout=None):
        """Waits for the end of the job; its stdout."""
        try:
            ended = self.process.wait(timeout or 2 * WAIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"waited {timeout or 2 * WAIT:.0f} s for the job's end\n{self.story()}") from None
        assert status is None or ended == status, f"status {ended} instead of {status}\n{self.story()}"
        return self.out


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Work:
    """A test's directory, its random numbers, and the commands it calls."""

    def __init__(self, path, seed):
        self.path, self.seed = path, seed
        self.random = random.Random(seed)
        self.jobs, self.backgrounds = [], []
        self.mounted = []

    # --- commands

    @staticmethod
    def as_called(user, command):
        return as_user(user, command)

    @staticmethod
    def seen(path):
        """A path that a command has told, as this process sees it."""
        return pathlib.Path(path)

    def environment(self, more=None):
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("PYTEST", "OMPI_", "PMIX_", "SUDO_"))}
        env["PATH"] = f"{PREFIX / 'bin'}:{env.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
        env.update(more or {})
        return env

    def command(self, *args, user=None, status=0, env=None, timeout=None, cwd=None, stdin=b""):
        """Calls `stillpoint ARGS` and waits for its end.  status: what it must be; None: any."""
        line = self.as_called(user, [STILLPOINT, *map(str, args)])
        try:
            done = subprocess.run(line, input=stdin, capture_output=True, timeout=timeout or WAIT,
                                  cwd=cwd or self.path, env=self.environment(env))
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"waited {late.timeout:.0f} s for the end of {' '.join(line)}\n"
                                 f"  stdout: {late.stdout}\n  stderr: {late.stderr}") from None
        result = Done(line, done.returncode, done.stdout.decode(errors="replace"),
                      done.stderr.decode(errors="replace"))
        assert status is None or result.status == status, f"status {status} expected\n{result}"
        return result

    def in_background(self, *args, user=None):
        """Starts `stillpoint ARGS`; call finish() on what comes back."""
        return Background(self, self.as_called(user, [STILLPOINT, *map(str, args)]))

    def refused(self, *args, status, says, **more):
        """A command that must fail with this status and say why in one clear line; returns the line."""
        done = self.command(*args, status=status, **more)
        said = done.complaints
        assert len(said) == 1, f"one line expected\n{done}"
        for words in [says] if isinstance(says, str) else says:
            assert words.lower() in said[0].lower(), f"'{words}' expected in the line\n{done}"
        assert "terminate called" not in done.err and "Traceback" not in done.err, done
        return said[0]

    def _start(self, verb, args, user, env, stdin):
        number = len(self.jobs) + 1
        job = Job(self, [STILLPOINT, verb, *map(str, args)], user, env, stdin or subprocess.DEVNULL, f"{number}-{verb}")
        self.jobs.append(job)
        return job

    def run(self, app, *options, ranks=1, user=None, env=None, stdin=None, keep=0):
        """Starts a job in the background."""
        options = ["-n", ranks, "--checkpoint-keep", keep, *options]
        return self._start("run", [*options, "--", *app], user, env, stdin)

    def restart(self, checkpoint, *options, user=None, env=None, stdin=None):
        return self._start("restart", [checkpoint, *options], user, env, stdin)

    def result_of(self, app, *options, ranks=1, user=None, **more):
        """stdout of an uninterrupted run."""
        return self.run(app, *options, ranks=ranks, user=user, **more).wait()

    def forge(self, manifest, change, value):
        """Changes a manifest and signs it again."""
        subprocess.run([FORGE, manifest, change, value], check=True, timeout=WAIT)

    # --- facts

    def inspect(self, checkpoint):
        return self.command("inspect", checkpoint, "--json").json

    def stdout_before(self, checkpoint):
        return self.inspect(checkpoint)["stdout_bytes"]

    @property
    def checkpoints(self):
        return self.path / "stillpoint-checkpoints"

    def epochs(self, job, directory=None):
        """The permanent checkpoints of a job on disk, ascending."""
        found = (directory or self.checkpoints).glob(f"{job}.0/*/manifest.h5")
        return sorted(int(manifest.parent.name) for manifest in found if manifest.parent.name.isdigit())

    def tentative(self, directory=None):
        return leftovers.tentative_files(directory or self.path)

    def wait_gone(self, job):
        wait_until(lambda: not os.path.exists(f"/run/stillpoint/jobs/{job}"), f"job {job} to be off the node")

    def file(self, name, content=""):
        path = self.path / name
        path.write_text(content)
        path.chmod(0o644)
        return path

    def directory(self, name, user=None):
        path = self.path / name
        path.mkdir(parents=True)
        if user:
            os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        return path

    def small_disk(self, name, kilobytes, user=None):
        """A file system of its own that is full soon."""
        path = self.directory(name)
        owner = pwd.getpwnam(user).pw_uid if user else 0
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0755,uid={owner}", "small", path],
                       check=True)
        self.mounted.append(path)
        return path

    # --- the end

    def finish(self):
        """Ends what is still there, whatever state it is in."""
        for job in self.jobs + self.backgrounds:
            if job.process.poll() is None:
                job.process.terminate()
        for job in self.jobs + self.backgrounds:
            try:
                job.process.wait(20)
            except subprocess.TimeoutExpired:
                for pid in leftovers.descendants(job.process.pid):
                    _kill(pid)
                job.process.wait(20)
        for path in reversed(self.mounted):
            subprocess.run(["umount", "-l", path], check=False)
        self.mounted.clear()
