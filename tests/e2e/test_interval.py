"""Periodic checkpoints."""
import os
import pathlib
import time

from stillpoint_testing import heat2d


def test_interval_and_keep(work):
    app = heat2d(size=48, iterations=700, every=10, delay=10)
    expected = work.result_of(heat2d(size=48, iterations=700, every=10), ranks=2)
    job = work.run(app, "--checkpoint-interval", "1s", ranks=2, keep=2).started()
    job.wait_for("checkpoint 4 of .* is permanent", "err")
    assert job.wait() == expected
    kept = work.epochs(job.name)
    assert len(kept) == 2 and kept[0] >= 3
    directory = work.checkpoints / f"{job.name}.0"
    assert os.readlink(directory / "latest") == str(kept[-1])
    for epoch in kept:
        path = directory / str(epoch)
        assert job.out[:work.stdout_before(path)] + work.restart(path, "--checkpoint-interval", "2h").wait() == expected
        if epoch == kept[0]:
            assert kept[0] in work.epochs(job.name), "the restart pruned before it took a checkpoint"


def test_checkpoints_by_hand_between_periodic_ones(work):
    app = heat2d(size=48, iterations=500, every=10, delay=10)
    job = work.run(app, "--checkpoint-interval", "1s", ranks=2).started()
    by_hand = [job.checkpoint()["epoch"] for _ in range(3)]
    job.wait_for(r"is permanent(.|\n)*is permanent(.|\n)*is permanent(.|\n)*is permanent", "err")
    job.wait()
    epochs = work.epochs(job.name)
    assert set(by_hand) <= set(epochs) and epochs == list(range(1, len(epochs) + 1))


def test_two_at_the_same_time(work):
    """Two people ask at once: each gets a checkpoint, or is told that one is on its way."""
    job = work.run(heat2d(size=48, iterations=100000, every=10, memory=40, delay=1), ranks=2).started()
    job.wait_for("iteration 10 ")
    both = [work.in_background("checkpoint", job.name, "--json") for _ in range(2)]
    done = [one.finish(None) for one in both]
    assert {one.status for one in done} <= {0, 75} and 0 in {one.status for one in done}, done
    for one in done:
        if one.status == 0:
            assert (pathlib.Path(one.json["path"]) / "manifest.h5").exists()
    lines = job.out.count(b"\n")
    time.sleep(0.1)
    job.wait_for("(iteration.*\n){%d}" % (lines + 1))
    job.kill_all()
