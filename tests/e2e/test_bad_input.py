"""Wrong and hostile input: one clear line, a status other than 0, and nothing lost."""
import pathlib
import shutil

import pytest

from stillpoint_testing import DAMAGED, NOT_FOUND, PERMISSION, UNFIT, USAGE, heat2d

IDLE = heat2d(size=8, iterations=100000, every=10, delay=5)
# What a complaint about a file calls it.
CALLED = {"manifest.h5": "manifest", "c0.h5": "c0.h5"}


@pytest.mark.parametrize("args, says", [
    (["run", "--no-such-option", "--", "true"], "--no-such-option"),
    (["run", "-z", "--", "true"], "-z"),
    (["run"], "program"),
    (["run", "-n", "4"], "program"),
    (["run", "-n", "0", "--", "true"], "0"),
    (["run", "-n", "-1", "--", "true"], "-1"),
    (["run", "-n", "1000000", "--", "true"], "1000000"),
    (["run", "-n", "99999999999999999999", "--", "true"], "99999999999999999999"),
    (["run", "-n", "four", "--", "true"], "four"),
    (["run", "-n", "2.5", "--", "true"], "2.5"),
    (["run", "-n", "", "--", "true"], "-n"),
    (["run", "--checkpoint-interval", "0", "--", "true"], "interval"),
    (["run", "--checkpoint-interval", "-5", "--", "true"], "-5"),
    (["run", "--checkpoint-interval", "soon", "--", "true"], "soon"),
    (["run", "--checkpoint-interval", "10x", "--", "true"], "10x"),
    (["run", "--checkpoint-interval", "1:2:3:4", "--", "true"], "1:2:3:4"),
    (["run", "--checkpoint-keep", "-1", "--", "true"], "-1"),
    (["run", "--name", "../evil", "--", "true"], "../evil"),
    (["run", "--name", "", "--", "true"], "name"),
    (["run", "--name", "a b", "--", "true"], "a b"),
    (["run", "--name", "x" * 65, "--", "true"], "64"),
    (["run", "-x", "=value", "--", "true"], "=value"),
    (["run", "--wdir"], "--wdir"),
    (["no-such-command"], "no-such-command"),
    (["checkpoint"], "job"),
    (["checkpoint", "a", "b"], "b"),
    (["restart"], "checkpoint"),
    (["inspect"], "checkpoint"),
    (["status", "--jsno"], "--jsno"),
    (["list", "a", "b"], "b"),
], ids=lambda value: " ".join(value)[:40] or "nothing" if isinstance(value, list) else "")
def test_wrong_usage(work, args, says):
    work.refused(*args, status=USAGE, says=says)
    assert list(work.path.iterdir()) == [], "something was made"


def test_no_command_at_all(work):
    done = work.command(status=USAGE)
    assert done.out == "" and "Usage: stillpoint" in done.err


@pytest.mark.parametrize("command", ["restart", "inspect", "verify"])
def test_missing_checkpoint(work, command):
    work.directory("empty")
    work.directory("stillpoint-checkpoints/job.0/3")
    for name in ("no-such-thing", "empty", "stillpoint-checkpoints/job.0", "stillpoint-checkpoints/job.0/3", "job",
                 "/", "a/b/c/manifest.h5", ""):
        line = work.refused(command, name, status=USAGE if name == "" else NOT_FOUND, says=name)
        assert "manifest" in line or "checkpoint" in line
    shutil.rmtree(work.checkpoints)


def test_missing_job(work):
    work.refused("checkpoint", "no-such-job", status=NOT_FOUND, says="no-such-job")
    work.refused("checkpoint", "../x", status=USAGE, says="../x")


@pytest.fixture(scope="module")
def sample(tmp_path_factory, request):
    """One small checkpoint for all tests below; every test works on a copy."""
    keeper = {}

    def take(work):
        if not keeper:
            job = work.run(IDLE, user="physicist").started()
            job.wait_for("iteration 10 ")
            taken = job.checkpoint()
            job.kill_all()
            keeper["path"] = tmp_path_factory.mktemp("sample") / pathlib.Path(taken["path"]).name
            shutil.copytree(taken["path"], keeper["path"])
            shutil.rmtree(work.checkpoints)
        target = work.path / "copy.0" / keeper["path"].name
        shutil.copytree(keeper["path"], target)
        for path in (target.parent, target, *target.iterdir()):
            shutil.chown(path, "physicist", "physicist")
        return target
    return take


def refused_everywhere(work, checkpoint, status, says, commands=("verify", "restart")):
    for command in commands:
        work.refused(command, checkpoint, status=status, says=says, user="physicist")


def cuts(work, size, count=12):
    return sorted({0, 1, 7, 8, 511, 512, 513, size // 2, size - 1} | {work.random.randrange(size)
                                                                     for _ in range(count)})


@pytest.mark.parametrize("name", ["manifest.h5", "c0.h5"])
def test_truncated(work, sample, name):
    checkpoint = sample(work)
    whole = (checkpoint / name).read_bytes()
    for length in cuts(work, len(whole)):
        (checkpoint / name).write_bytes(whole[:length])
        refused_everywhere(work, checkpoint, DAMAGED, CALLED[name], ["restart" if length % 2 else "verify"])
    (checkpoint / name).write_bytes(whole)
    work.command("verify", checkpoint)


@pytest.mark.parametrize("name", ["manifest.h5", "c0.h5"])
def test_flipped_bits(work, sample, name):
    checkpoint = sample(work)
    whole = (checkpoint / name).read_bytes()
    for at in cuts(work, len(whole), 25):
        bad = bytearray(whole)
        bad[at] ^= 1 << work.random.randrange(8)
        (checkpoint / name).write_bytes(bad)
        done = work.command("restart" if at % 2 else "verify", checkpoint, user="physicist", status=None)
        # A bit of the version's field can make it look like a newer format, and is refused as that.
        assert done.status == DAMAGED or (done.status == UNFIT and name == "manifest.h5" and at < 512), (at, done)
        assert len(done.complaints) == 1, (at, done)
    (checkpoint / name).write_bytes(whole)
    work.command("verify", checkpoint)


@pytest.mark.parametrize("name", ["manifest.h5", "c0.h5"])
def test_other_things_in_place_of_a_file(work, sample, name):
    checkpoint = sample(work)
    victim = checkpoint / name
    for content in (b"", b"\0" * 4096, b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096, b"x" * 100000):
        victim.write_bytes(content)
        refused_everywhere(work, checkpoint, DAMAGED, CALLED[name])
    victim.unlink()
    refused_everywhere(work, checkpoint, NOT_FOUND, CALLED[name])
    victim.mkdir()
    for command in ("verify", "restart"):
        assert len(work.command(command, checkpoint, user="physicist", status=None).complaints) == 1
    victim.rmdir()
    victim.symlink_to("/dev/zero")
    for command in ("verify", "restart"):
        done = work.command(command, checkpoint, user="physicist", status=None)
        assert done.status not in (0, 124) and len(done.complaints) == 1, done


def test_statefiles_of_another_checkpoint(work, sample):
    """Two genuine halves do not make one checkpoint."""
    checkpoint = sample(work)
    job = work.run(IDLE, user="physicist").started()
    job.wait_for("iteration 10 ")
    other = pathlib.Path(job.checkpoint()["path"])
    job.kill_all()
    shutil.copyfile(other / "c0.h5", checkpoint / "c0.h5")
    refused_everywhere(work, checkpoint, DAMAGED, "c0.h5")


def test_checkpoint_of_another_user(work, sample):
    """Root may restart anyone's, as that one; nobody else may."""
    checkpoint = sample(work)
    work.refused("restart", checkpoint, user="chemist", status=PERMISSION, says=str(checkpoint))
    for path in (checkpoint, *checkpoint.iterdir()):
        path.chmod(0o755)
    work.refused("restart", checkpoint, user="chemist", status=PERMISSION, says="physicist")
    work.refused("restart", checkpoint, "--user", "chemist", status=PERMISSION, says="physicist")


@pytest.mark.parametrize("change, status, says", [
    (["format", "999"], UNFIT, "999"),
    (["cpu-flag", "quantum9000"], UNFIT, "quantum9000"),
    (["machine", "riscv128"], UNFIT, "riscv128"),
    (["mount", "/no/such/mount"], UNFIT, "/no/such/mount"),
    (["uid", "0"], PERMISSION, "uid 0"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_genuine_but_not_for_here(work, sample, change, status, says):
    """Signed with this site's key, as from another node or a later version of ours."""
    checkpoint = sample(work)
    work.forge(checkpoint / "manifest.h5", *change)
    work.refused("restart", checkpoint, user="physicist", status=status, says=says)


def test_forged_manifest(work, sample):
    """A manifest that is consistent in itself but was not signed with this site's key."""
    checkpoint = sample(work)
    work.forge(checkpoint / "manifest.h5", "key", "0" * 64)
    work.refused("restart", checkpoint, user="physicist", status=DAMAGED, says="key")


def test_program_that_is_no_mpi_program_under_mpi_options(work):
    """A program of another kind simply runs; one that is none at all is refused."""
    assert work.result_of(["echo", "hello"], ranks=2) == b"hello\n" * 2
    noise = work.path / "noise"
    noise.write_bytes(bytes(work.random.randrange(256) for _ in range(4096)))
    noise.chmod(0o755)
    work.refused("run", "--", "./noise", status=126, says="./noise")


def test_hostile_names(work):
    """Control characters in what we repeat do not reach the terminal."""
    done = work.command("inspect", "evil\x1b[31m\nname", status=NOT_FOUND)
    assert "\x1b" not in done.err and done.err.count("\n") == 1, done
    done = work.command("run", "--", "evil\x1b[31m", status=127)
    assert "\x1b" not in done.err, done


