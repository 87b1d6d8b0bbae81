"""A run that is killed again and again, at any moment, ends where one that was left alone does."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

from compare_runs import assert_same_end
from tiny_run import command, environment, run_cnn, write_data, write_model

from cnn.runs.checkpoint import list_checkpoints, read_checkpoint
from cnn.runs.folder import checkpoints_of

KILLS = 4
# A checkpoint every third step: most of the time one is being written.
SETTINGS = ("--epochs", 20, "--batch-size", 8, "--checkpoint-every", 3, "--augment", "shift", "--device", "cpu")


def test_killed_at_random_and_resumed(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.py")
    data = write_data(tmp_path / "shapes.npz")
    begin = ("train", "--model", model, "--data", data, *SETTINGS, "--out")
    straight = run_cnn(*begin, "straight", cwd=tmp_path)
    assert straight.returncode == 0, straight.stderr

    run = tmp_path / "killed"
    moments = random.Random(0)
    killed = 0
    arguments = (*begin, "killed")
    while killed < KILLS and kill_after_a_checkpoint(tmp_path, run, moments.uniform(0, 0.1), *arguments):
        killed += 1
        present = list_checkpoints(checkpoints_of(run))
        # None, or a damaged one, and this raises; two are kept but while the oldest is being dropped.
        assert 1 <= len([read_checkpoint(path).step for path in present]) <= 3
        arguments = ("train", "--resume", "killed")
    assert killed >= 3, "the run was over too soon to be killed: give it more epochs"

    resumed = run_cnn("train", "--resume", "killed", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(tmp_path / "straight", run)
    assert not list(run.rglob("*.tmp"))


def kill_after_a_checkpoint(cwd: Path, run: Path, delay: float, *arguments: object) -> bool:
    """Start `cnn`, wait for a checkpoint that was not there, kill it `delay` seconds later; False if it was done."""
    before = newest(run)
    process = subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and newest(run) == before:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    return process.wait() == -signal.SIGKILL


def newest(run: Path) -> str | None:
    return max((path.name for path in list_checkpoints(checkpoints_of(run))), default=None)
