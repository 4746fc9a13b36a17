"""Files of the application: rolled back on restart to what they were at the checkpoint."""
import pathlib

import pytest

from stillpoint_testing import DAMAGED, program

STEPS = 60


def files_of(work, prefix):
    return {path.name[len(prefix):]: path.read_bytes() for path in sorted(work.path.glob(prefix + ".*"))}


def written(work, user=None):
    """A job that writes files and was killed some steps after its checkpoint."""
    expected = work.result_of(program("writer", "reference", STEPS, 0), ranks=2, user=user)
    job = work.run(program("writer", "files", STEPS, 30), ranks=2, user=user).started()
    job.wait_for("step 10\n")
    taken = job.checkpoint()
    sizes = {name: len(content) for name, content in files_of(work, "files").items()}
    job.wait_for("step 30\n")
    job.kill_all()
    return job, taken, expected, sizes


@pytest.mark.parametrize("user", [None, "physicist"], ids=["root", "physicist"])
def test_written_files_are_rolled_back(work, user):
    job, taken, expected, _ = written(work, user)
    for _ in range(2):
        rest = work.restart(taken["path"], user=user).wait()
        assert job.out[:work.stdout_before(taken["path"])] + rest == expected
        assert files_of(work, "files") == files_of(work, "reference")


def test_inspect_knows_the_files(work):
    _, taken, _, sizes = written(work)
    files = {file["path"]: file for file in work.inspect(taken["path"])["containers"][0]["files"]}
    for name in sizes:
        record = files[str(work.path / f"files{name}")]
        assert record["writable"] and 0 < record["size"] <= sizes[name]
    assert not files[program("writer")[0]]["writable"]


@pytest.mark.parametrize("name", ["files.0.data", "files.1.log"])
@pytest.mark.parametrize("harm", ["gone", "shorter"])
def test_a_file_that_is_not_what_it_was_is_named(work, name, harm):
    job, taken, expected, _ = written(work)
    before = files_of(work, "files")
    victim = work.path / name
    content = victim.read_bytes()
    victim.unlink() if harm == "gone" else victim.write_bytes(content[:100])
    work.refused("restart", taken["path"], status=DAMAGED, says=str(victim))
    changed = {key for key, value in files_of(work, "files").items() if before[key] != value}
    assert changed <= {name[len("files"):]}, "a restart that was refused changed files"
    victim.write_bytes(content)
    assert job.out[:work.stdout_before(taken["path"])] + work.restart(taken["path"]).wait() == expected


def test_a_program_that_is_gone_is_named(work):
    """The program itself is a file, too."""
    mine = work.path / "my-writer"
    mine.write_bytes(pathlib.Path(program("writer")[0]).read_bytes())
    mine.chmod(0o755)
    job = work.run([str(mine), "files", STEPS, "30"], ranks=2).started()
    job.wait_for("step 3\n")
    taken = job.checkpoint()
    job.kill_all()
    away = mine.rename(work.path / "away")
    work.refused("restart", taken["path"], status=DAMAGED, says=str(mine))
    away.rename(mine)
    work.restart(taken["path"]).wait()
