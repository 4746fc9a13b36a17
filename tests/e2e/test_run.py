"""`stillpoint run` as an mpirun: input, output, exit status, signals, environment."""
import os
import pty
import signal
import subprocess

import pytest

from stillpoint_testing import STILLPOINT, STOPPED, USAGE, heat2d, program, ring, wait_until


def shell(text):
    return ["/bin/sh", "-c", text]


# --- output

def test_same_result_as_mpirun_on_any_number_of_ranks(work):
    app = heat2d(size=40, iterations=60, every=20)
    mpirun = subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", *app], cwd=work.path,
                            env=work.environment(), stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert {work.result_of(app, ranks=ranks) for ranks in (1, 2, 3, 6)} == {mpirun}


def test_ring_on_any_number_of_ranks(work):
    for ranks in (1, 2, 5):
        out = work.result_of(ring(bytes=100001, iterations=12, every=5), ranks=ranks)
        assert b"ring: 12 iterations, %d bytes checked, ok" % (2 * 12 * 100001 * ranks) in out


def test_all_output_of_all_ranks(work):
    job = work.run(program("numbers", 4000), ranks=4)
    out = job.wait().decode().splitlines()
    for rank in range(4):
        mine = [line for line in out if line.startswith(f"{rank}: ")]
        assert [line.split()[1] for line in mine] == [str(i) for i in range(1, 4001)]
        errors = [line for line in job.err.splitlines() if line.startswith(f"{rank}: error ")]
        assert [line.split()[2] for line in errors] == [str(i) for i in range(1, 4001)]
    assert len(out) == 4 * 4000


def test_output_over_checkpoints_and_restart(work):
    """Ranks that print all the time: no byte is lost or doubled."""
    app = program("numbers", 6000, 40)
    expected = sorted(work.result_of(program("numbers", 6000), ranks=3).splitlines())
    job = work.run(app, ranks=3).started()
    job.wait_for("0: 100 ")
    taken = [job.checkpoint() for _ in range(3)]
    job.kill_all()
    for one in taken:
        out = job.out[:work.stdout_before(one["path"])] + work.restart(one["path"]).wait()
        assert sorted(out.splitlines()) == expected


def test_tag_output(work):
    out = work.result_of(shell("echo out of $PMIX_RANK; printf 'no end of line'"), "--tag-output", ranks=2)
    lines = out.decode().splitlines()
    for rank in range(2):
        assert any(str(rank) in line.split(":")[0] and line.endswith(f"out of {rank}") for line in lines), out
    assert all(line.startswith("[") for line in lines), out


def test_reader_of_the_output_goes_away(work):
    """As in `stillpoint run ... | head -1`."""
    line = f"{STILLPOINT} run -n 2 -- {' '.join(program('numbers', 20000))} 2>errors | head -n 1; wait"
    done = subprocess.run(["bash", "-c", line], cwd=work.path, env=work.environment(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, timeout=60)
    assert done.stdout.count(b"\n") == 1


# --- input

@pytest.mark.parametrize("how", ["file", "pipe", "none"])
def test_input_goes_to_rank_0(work, how):
    lines = [f"line {i} " + "x" * (i % 500) for i in range(8000)] if how != "none" else []
    text = "".join(line + "\n" for line in lines)
    path = work.file("input", text)
    if how == "file":
        with open(path) as stdin:
            out = work.result_of(program("reader"), ranks=3, stdin=stdin)
    elif how == "pipe":
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            out = work.result_of(program("reader"), ranks=3, stdin=cat.stdout)
    else:
        out = work.result_of(program("reader"), ranks=3)
    assert out.startswith(b"%d lines, %d bytes, sum" % (len(lines), len(text)))


@pytest.mark.parametrize("how", ["file", "pipe"])
def test_input_over_a_restart(work, how):
    """A file is read on where the job was; a pipe's rest is what the job had not taken."""
    lines = "".join(f"line {i}\n" for i in range(3000))
    path = work.file("input", lines)
    go = work.file("GO")
    app = program("reader", "GO")
    with open(path) as stdin:
        expected = work.result_of(app, ranks=2, stdin=stdin)
    go.unlink()
    with open(path) if how == "file" else subprocess.Popen(["cat", path], stdout=subprocess.PIPE).stdout as stdin:
        job = work.run(app, ranks=2, stdin=stdin).started()
        job.wait_for("ten lines read")
        taken = job.checkpoint()
        job.kill_all()
    with open(path if how == "file" else os.devnull) as stdin:
        again = work.restart(taken["path"], stdin=stdin).started()
        work.file("GO")
        assert job.out[:work.stdout_before(taken["path"])] + again.wait() == expected


def test_input_that_nobody_reads(work):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        assert work.result_of(shell("echo done"), ranks=2, stdin=yes.stdout) == b"done\n" * 2
        yes.kill()


# --- exit status

@pytest.mark.parametrize("how, number, status, says", [
    ("status", 3, 3, "rank 1"),
    ("late", 4, 4, "rank 1"),
    ("signal", signal.SIGSEGV, 128 + signal.SIGSEGV, "signal 11"),
    ("signal", signal.SIGKILL, 128 + signal.SIGKILL, "signal 9"),
    ("abort", 77, 77, "rank 1"),
])
def test_status_of_the_first_rank_that_failed(work, how, number, status, says):
    job = work.run(program("exits", 1, how, int(number)), ranks=3)
    out = job.wait(status=status)
    assert b"went on" not in out
    assert any(line.startswith("stillpoint") and says in line for line in job.err.splitlines()), job.story()


def test_a_rank_that_ends_well_ends_alone(work):
    out = work.result_of(shell('[ "$PMIX_RANK" = 0 ] && exit 0; sleep 0.3; echo late'), ranks=2)
    assert out == b"late\n"


def test_programs_that_cannot_be_started(work):
    work.refused("run", "-n", 2, "--", "no-such-program", status=127, says="no-such-program")
    work.refused("run", "-n", 2, "--", "./not-there", status=127, says="./not-there")
    work.file("not-executable", "#!/bin/sh\n")
    work.refused("run", "-n", 2, "--", "./not-executable", status=126, says="./not-executable")
    work.refused("run", "--", str(work.path), status=126, says=str(work.path))
    script = work.file("script", "#!/no/such/interpreter\n")
    script.chmod(0o755)
    work.refused("run", "--", "./script", status=127, says="./script")


# --- signals

@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_passed_on(work, number):
    job = work.run(program("signals"), ranks=2).started()
    job.wait_for("ready")
    os.kill(job.process.pid, number)
    for rank in range(2):
        job.wait_for(f"rank {rank}: {number.name}\n")
    os.kill(job.process.pid, signal.SIGTERM)
    job.wait(status=0)
    for rank in range(2):
        assert f"rank {rank}: SIGTERM\n".encode() in job.out


def test_interrupt_from_the_keyboard(work):
    """Ctrl-C on a terminal: the foreground process group gets SIGINT."""
    job = work.run(shell("echo ready; exec sleep 60"), ranks=2).started()
    job.wait_for("ready\nready\n")
    os.killpg(job.process.pid, signal.SIGINT)
    job.wait(status=128 + signal.SIGINT)


def test_a_job_that_ignores_the_signal_ends_all_the_same(work):
    """Whoever presses Ctrl-C again and again gets rid of it."""
    job = work.run(shell("trap '' INT TERM; echo ready; while :; do sleep 0.1; done"), ranks=2).started()
    job.wait_for("ready\nready\n")

    def ended_after_another():
        os.kill(job.process.pid, signal.SIGINT)
        return job.process.poll() is not None
    wait_until(ended_after_another, "the end of the job", timeout=20, step=0.5)
    job.wait(status=128 + signal.SIGINT)


def test_killed_agent_leaves_nothing(work):
    """The guard ends the container, whatever the agent was doing; also in mid-checkpoint."""
    job = work.run(heat2d(size=64, iterations=100000, every=10, memory=100), ranks=2).started()
    job.wait_for("iteration 10 ")
    agent = job.status()["agent_pid"]
    attempt = work.in_background("checkpoint", job.name)
    wait_until(lambda: job.status()["phase"] != "running", "the checkpoint to begin", step=0.001)
    os.kill(agent, signal.SIGKILL)
    job.wait(status=-signal.SIGKILL)
    assert attempt.finish(None).status != 0
    work.wait_gone(job.name)
    # What the dead agent left in the checkpoint directory goes with the next checkpoint under that name.
    again = work.run(heat2d(size=64, iterations=100000, every=10), "--name", job.name, ranks=2).started()
    again.checkpoint()
    assert work.tentative() == []
    again.kill_all()


# --- environment, directory, user

def test_environment(work):
    out = work.result_of(shell("echo $GIVEN-$PASSED-$USUAL"), "-x", "GIVEN=a b", "-x", "PASSED",
                         env={"PASSED": "p", "USUAL": "u"})
    assert out == b"a b-p-u\n"


def test_working_directory(work):
    work.directory("else where")
    assert work.result_of(["pwd"]) == f"{work.path}\n".encode()
    assert work.result_of(["pwd"], "--wdir", "else where") == f"{work.path}/else where\n".encode()
    work.refused("run", "--wdir", "nowhere", "--", "pwd", status=126, says="nowhere")


def test_program_is_looked_up_on_path_and_below_the_directory(work):
    mine = work.file("mine", "#!/bin/sh\necho mine\n")
    mine.chmod(0o755)
    assert work.result_of(["./mine"]) == b"mine\n"
    assert work.result_of(["mine"], env={"PATH": f"{work.path}:{os.environ['PATH']}"}) == b"mine\n"


def test_user(work):
    ids = shell("id -un; id -Gn; umask; ulimit -n; cat /proc/self/status | grep -E '^Cap(Eff|Prm|Bnd)'")
    for options, user in (((), "physicist"), (("--user", "physicist"), None)):
        lines = work.result_of(ids, *options, user=user).decode().split("\n")
        assert lines[0] == "physicist" and "root" not in lines[1], lines
        assert "CapEff:\t0000000000000000" in lines and "CapPrm:\t0000000000000000" in lines, lines
    assert work.result_of(["id", "-un"]) == b"root\n"
    work.refused("run", "--user", "nobody-of-that-name", "--", "id", status=USAGE, says="nobody-of-that-name")
    work.refused("run", "--user", "root", "--", "id", user="physicist", status=77, says="root")


def test_without_privileges(work):
    """Called by a user without sudo: a clear refusal, no trace of an attempt."""
    done = subprocess.run(["runuser", "-u", "physicist", "--", STILLPOINT, "run", "--", "id"], cwd=work.path,
                          env=work.environment(), capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 77, done
    assert b"sudo" in done.stderr and done.stderr.count(b"\n") == 1, done


def test_job_sees_its_own_processes_only(work):
    out = work.result_of(shell("ls /proc | grep -c '^[0-9]'; ls /dev/shm | grep -vc '^stillpoint'; hostname"))
    assert int(out.split()[0]) < 10 and out.split()[1] == b"0"


def test_stillrun_is_stillpoint_run(work):
    stillrun = os.path.join(os.path.dirname(STILLPOINT), "stillrun")
    done = subprocess.run([stillrun, "-n", "2", "echo", "hello"], cwd=work.path, env=work.environment(),
                          capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, b"hello\nhello\n"), done


def test_options_end_at_the_program(work):
    """What stands behind the program is its own, even if it looks like one of ours."""
    assert work.result_of(["echo", "-n", "3", "--name", "x"]) == b"3 --name x"
    done = work.command("run", "-n", 1, "echo", "--help", "x")
    assert done.out in ("--help x\n",)


def test_name_in_use(work):
    job = work.run(program("receive", "GO"), "--name", "taken", ranks=2).started()
    work.refused("run", "--name", "taken", "--", "true", status=75, says="taken")
    job.wait_for("waiting")
    work.file("GO")
    job.wait()


def test_progress_bar_on_a_terminal(work):
    job = work.run(heat2d(size=64, iterations=100000, every=100, memory=60), ranks=2).started()
    job.wait_for("iteration 100 ")
    ours, theirs = pty.openpty()
    checkpoint = subprocess.Popen([STILLPOINT, "checkpoint", job.name, "--stop"], stdin=theirs,
                                  stdout=theirs, stderr=theirs, cwd=work.path, env=work.environment({"TERM": "xterm"}))
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert checkpoint.wait(60) == 0, shown
    assert b"\r" in shown and b"[#" in shown and b"/s" in shown, shown
    job.wait(status=STOPPED)
    assert "\r" not in job.err  # not a terminal: plain lines
