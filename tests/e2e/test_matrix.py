"""The examples, checkpointed twenty times at random moments, killed, and restarted from the first, a middle and the
last checkpoint: the output of both runs together is that of an uninterrupted run."""
import time

import pytest

from stillpoint_testing import heat2d, ring

CHECKPOINTS = 20
iterations = {"heat2d": 1000, "ring": 600}  # raised where a job ends before its last checkpoint
applications = {
    "heat2d": lambda count, delay: heat2d(size=64, iterations=count, every=7, delay=delay, picture="plate.pgm"),
    "ring": lambda count, delay: ring(bytes=200000, iterations=count, every=3, delay=delay),
}


def checkpoint_at_random_moments(work, job):
    """What `checkpoint` says of each; None if the job ended before the last of them."""
    taken = []
    for _ in range(CHECKPOINTS):
        time.sleep(work.random.uniform(0, 0.1))
        done = work.command("checkpoint", job.name, "--json", user=job.user, status=None)
        if done.status != 0:
            assert b"checked, ok" in job.out or b"result" in job.out, f"{done}\n{job.story()}"
            job.wait()
            return None
        taken.append(done.json)
    time.sleep(work.random.uniform(0, 0.1))
    if job.process.poll() is not None or b"result" in job.out or b"checked, ok" in job.out:
        job.wait()
        return None
    return taken


def checkpointed_job(work, name, ranks, user):
    """A running job with twenty checkpoints, how many iterations it does, and its checkpoints."""
    for _ in range(6):
        count = iterations[name]
        job = work.run(applications[name](count, 5), ranks=ranks, user=user).started()
        taken = checkpoint_at_random_moments(work, job)
        if taken:
            return job, count, taken
        iterations[name] = count * 8 // 5
    raise AssertionError(f"{name} always ends before its checkpoint {CHECKPOINTS}")


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("name, user", [("heat2d", "physicist"), ("ring", None)], ids=["heat2d", "ring"])
def test_any_of_twenty_checkpoints_leads_to_the_same_result(work, name, user, ranks):
    job, count, taken = checkpointed_job(work, name, ranks, user)
    assert [one["epoch"] for one in taken] == sorted({one["epoch"] for one in taken})
    job.kill_all()
    assert work.epochs(job.name) == [one["epoch"] for one in taken]

    picture = work.path / "plate.pgm"
    expected = work.result_of(applications[name](count, 0), ranks=ranks, user=user)
    expected_picture = picture.read_bytes() if picture.exists() else None
    for one in (taken[0], work.random.choice(taken[1:-1]), taken[-1]):
        picture.unlink(missing_ok=True)
        before = work.stdout_before(one["path"])
        assert before <= len(job.out)
        rest = work.restart(one["path"], user=user).wait()
        assert job.out[:before] + rest == expected, f"restarted from checkpoint {one['epoch']}"
        assert (picture.read_bytes() if picture.exists() else None) == expected_picture
