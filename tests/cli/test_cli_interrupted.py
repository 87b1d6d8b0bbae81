"""Ctrl-C and SIGTERM, at a pipe and at a terminal."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_run import command, environment, run_cnn, write_data, write_model

from cnn.runs.checkpoint import list_checkpoints, read_checkpoint
from cnn.runs.folder import checkpoints_of


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_a_checkpoint(tmp_path: Path, number: int, status: int) -> None:
    write_data(tmp_path / "shapes.npz")
    model = write_model(tmp_path / "model.py")
    options = ("--epochs", 400, "--checkpoint-every", 10**6, "--batch-size", 8, "--lr", 0.001, "--out", "a run")
    process = subprocess.Popen(
        command("train", "--model", model, "--data", "shapes.npz", *options),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 1 "):
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    told = re.fullmatch(r"cnn: interrupted after step (\d+), which is saved; to go on: cnn (.*)\n", errors)
    assert told is not None
    assert shlex.split(told[2]) == ["train", "--resume", "a run"]
    step = int(told[1])
    assert read_checkpoint(list_checkpoints(checkpoints_of(tmp_path / "a run"))[0]).step == step
    assert 34 <= step < 400 * 34


def test_ctrl_c_before_the_first_step(tmp_path: Path) -> None:
    # The signal may reach another thread first: the main one goes on until it hears of it.
    lines = (
        "import os, signal, time",
        "def net(*_):",
        # A shell lets what it starts in the background ignore it.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)",
        "    os.kill(os.getpid(), signal.SIGINT)",
        "    while True: time.sleep(0.01)",
    )
    (tmp_path / "model.py").write_text("\n".join(lines))
    write_data(tmp_path / "shapes.npz", 60)
    done = run_cnn("train", "--model", "model.py:net", "--data", "shapes.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "cnn train: interrupted\n")


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    write_data(tmp_path / "shapes.npz")
    model = write_model(tmp_path / "model.py")
    options = ("--epochs", 4, "--batch-size", 4, "--out", "run")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("train", "--model", model, "--data", "shapes.npz", *options),
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = read_terminal(ours)
    assert process.wait(timeout=60) == 0, seen
    assert re.search(r"epoch \d .* \d+/272 loss \S+ [\d,]+ images/s", seen)
    assert seen.count("test loss") == 4  # the lines of the epochs stay, above the bar
    assert not re.search(r"^step ", seen, re.MULTILINE)
    assert seen.rstrip().splitlines()[-1].startswith("test accuracy ")


def test_a_bar_leaves_a_pipe_alone(tmp_path: Path) -> None:
    """stderr is a terminal, stdout is not: `cnn train > log`."""
    write_data(tmp_path / "shapes.npz", 60)
    model = write_model(tmp_path / "model.py")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("train", "--model", model, "--data", "shapes.npz", "--epochs", 2, "--out", "run"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    seen = read_terminal(ours)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, seen
    assert "images/s" in seen
    lines = output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["epoch", "epoch", "test"]
    assert "\x1b" not in output


def read_terminal(descriptor: int) -> str:
    """Everything until the other side is closed, without colours and movements of the cursor."""
    parts = []
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    text = b"".join(parts).decode().replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
