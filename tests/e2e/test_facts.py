"""Commands that tell facts: status, list, inspect, verify, check; for people and as JSON."""
import json
import os
import pathlib
import subprocess

import pytest

from stillpoint_testing import NOT_FOUND, PERMISSION, STILLPOINT, heat2d, program

SUBCOMMANDS = ["run", "checkpoint", "restart", "status", "list", "inspect", "verify", "check"]


@pytest.fixture
def running(work):
    job = work.run(heat2d(size=48, iterations=100000, every=10, delay=5), "--name", "facts", ranks=2,
                   user="physicist").started()
    job.wait_for("iteration 10 ")
    yield job
    job.kill_all()


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_help(work, subcommand):
    done = work.command(subcommand, "--help")
    assert "usage" in done.out.lower() and subcommand in done.out and done.err == ""
    assert all(len(line) <= 110 for line in done.out.splitlines()), done


def test_help_and_version(work):
    out = work.command("--help").out
    assert all(f"  {subcommand} " in out for subcommand in SUBCOMMANDS), out
    assert work.command("--version").out.startswith("stillpoint ")


def test_status(work, running):
    facts = running.status()
    assert facts["user"] == "physicist" and facts["phase"] == "running" and facts["ranks"] == 2
    assert facts["latest_epoch"] == 0
    assert facts["directory"] == str(work.checkpoints / "facts.0")
    assert [rank["rank"] for rank in facts["rank"]] == [0, 1]
    for rank in facts["rank"]:
        assert rank["program"].endswith("heat2d") and rank["pid"] > 1 and rank["memory"] > 1 << 20
    assert pathlib.Path(f"/proc/{facts['init_pid']}/comm").read_text().startswith("stillpoint")
    assert running.checkpoint()["epoch"] == running.status()["latest_epoch"] == 1
    text = work.command("status").out
    assert "facts" in text and "physicist" in text and "running" in text
    work.refused("status", "no-such-job", status=NOT_FOUND, says="no-such-job")


def test_list(work, running):
    assert work.command("list", work.directory("empty"), "--json").json["checkpoints"] == []
    taken = [running.checkpoint() for _ in range(2)]
    listed = work.command("list", "--json").json["checkpoints"]
    assert [(one["job"], one["epoch"], one["path"]) for one in listed] == \
        [("facts", one["epoch"], one["path"]) for one in taken]
    assert all(one["ranks"] == 2 and one["stored_bytes"] > 0 and one["created"] for one in listed)
    text = work.command("list", work.checkpoints).out
    assert text.count("facts") >= 2
    work.refused("list", "no-such-directory", status=NOT_FOUND, says="no-such-directory")


def test_checkpoint_says_what_it_did(work, running):
    taken = running.checkpoint()
    assert 0 < taken["stop_ms"] <= taken["total_ms"]
    assert taken["memory_bytes"] > 1 << 20
    files = sum(path.stat().st_size for path in pathlib.Path(taken["path"]).iterdir())
    assert 0 < taken["stored_bytes"] <= files < taken["memory_bytes"]
    text = work.command("checkpoint", "facts", user="physicist").out
    assert text.strip() == str(work.checkpoints / "facts.0" / "2")


def test_inspect(work, running):
    taken = running.checkpoint()
    facts = work.inspect(taken["path"])
    assert facts["job"] == "facts" and facts["epoch"] == taken["epoch"] and facts["ranks"] == 2
    assert facts["user"] == "physicist" and facts["argv"][0].endswith("heat2d")
    assert facts["kernel"] == os.uname().release and facts["machine"] == os.uname().machine
    assert facts["criu_version"] and facts["stillpoint_version"] and facts["pmix_version"]
    assert facts["times"]["dump"] > 0 and facts["cpu"]["flags"]
    container, = facts["containers"]
    assert [rank["rank"] for rank in container["ranks"]] == [0, 1]
    assert any(image["name"].startswith("pages-") and image["size"] > 0 for image in container["images"])
    assert (pathlib.Path(taken["path"]) / container["statefile"]).stat().st_size == container["statefile_size"]
    text = work.command("inspect", taken["path"]).out
    assert "facts" in text and "heat2d" in text


def test_inspect_needs_neither_criu_nor_privileges(work, running):
    taken = running.checkpoint()
    for command in ("inspect", "verify"):
        done = subprocess.run(["runuser", "-u", "physicist", "--", "env", "PATH=/nowhere", STILLPOINT, command,
                               taken["path"]], capture_output=True, cwd=work.path, timeout=60)
        assert done.returncode == 0, done


def test_tools_of_hdf5_read_a_checkpoint(work, running):
    path = pathlib.Path(running.checkpoint()["path"])
    listing = subprocess.run(["h5ls", "-r", path / "c0.h5"], capture_output=True, text=True, check=True).stdout
    assert "/images/pages-1.img" in listing and "/ranks" in listing
    dump = subprocess.run(["h5dump", "-A", path / "manifest.h5"], capture_output=True, text=True)
    assert dump.returncode == 0 and "HDF5" in dump.stdout, dump


def test_verify(work, running):
    taken = running.checkpoint()
    done = work.command("verify", taken["path"], user="physicist")
    assert done.status == 0


def test_check(work):
    done = work.command("check", "--json")
    facts = done.json
    assert facts["fit"] is True, done
    assert facts["checks"] and all({"name", "ok", "found", "remedy"} <= set(one) for one in facts["checks"]), done
    assert work.command("check").out.count("\n") >= len(facts["checks"])


def test_check_without_criu(work):
    """What is unfit is named, with what to do about it; a job is refused for the same reason."""
    done = subprocess.run(["unshare", "--mount", "bash", "-ec",
                           'for f in /usr/sbin/criu /usr/local/sbin/criu; do '
                           'if [ -e $f ]; then mount --bind /dev/null $f; fi; done; exec "$@"',
                           "-", STILLPOINT, "check", "--json"],
                          capture_output=True, cwd=work.path, env=work.environment(), timeout=60)
    assert done.returncode == 69, done
    facts = json.loads(done.stdout)
    unfit = [one for one in facts["checks"] if not one["ok"]]
    assert not facts["fit"] and any("criu" in one["name"].lower() for one in unfit), done


@pytest.mark.parametrize("command", [("checkpoint", "facts"), ("checkpoint", "facts", "--stop")])
def test_other_users_jobs_are_not_theirs(work, running, command):
    work.refused(*command, user="chemist", status=PERMISSION, says="facts")
    assert running.process.poll() is None


def test_json_is_always_json(work, running):
    running.checkpoint()
    for command in (("status",), ("list",), ("check",), ("inspect", "facts")):
        assert json.loads(work.command(*command, "--json").out)


def test_a_program_without_mpi(work):
    job = work.run(program("pipeline.sh", "GO"), ranks=1).started()
    job.wait_for("half way", "err")
    rank, = job.status()["rank"]
    assert rank["program"] == "pipeline.sh"
    work.file("GO")
    job.wait()
