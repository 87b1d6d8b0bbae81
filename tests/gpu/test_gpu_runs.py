"""Runs on a GPU, from the command line and in parts: they come out as on the CPU, and again as they did before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cnn.cli import main
from cnn.data import load
from cnn.runs.checkpoint import list_checkpoints, read_checkpoint, read_newest
from cnn.runs.config import TrainConfig
from cnn.runs.display import Lines
from cnn.runs.feed import Resident
from cnn.runs.folder import checkpoints_of
from cnn.runs.metrics import read_metrics
from cnn.runs.session import Session
from cnn.runs.streamed import Streamed
from cnn.runs.training import train

pytestmark = pytest.mark.gpu

DEVICES = ("cpu", "cuda")

# Losses after some steps: rounding differs between the devices, and grows from step to step.
LOSSES = 1e-3


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An .npz of 208 training images, three batches of 64 and one of 16, and 72 test images."""
    train_images, test_images = load("mnist", "train").subset(slice(208)), load("mnist", "test").subset(slice(72))
    path = tmp_path_factory.mktemp("data") / "mnist.npz"
    np.savez(
        path,
        x_train=train_images.images,
        y_train=train_images.labels,
        x_test=test_images.images,
        y_test=test_images.labels,
    )
    return str(path)


@pytest.fixture(scope="module")
def trained(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run of `cnn train` on each device."""
    runs = {device: tmp_path_factory.mktemp("runs") / device for device in DEVICES}
    for device, run in runs.items():
        options = ["--data", mnist, "--epochs", "3", "--device", device, "--out", str(run)]
        assert main(["train", *options]) == 0
    return runs


def test_the_command_line_trains_as_on_the_cpu(trained: dict[str, Path]) -> None:
    lines = {device: read_metrics(run / "metrics.jsonl") for device, run in trained.items()}
    assert [line["step"] for line in lines["cuda"]] == [4, 8, 12]
    for name in ("loss", "test_loss", "lr"):
        assert_allclose(*([line[name] for line in lines[device]] for device in DEVICES), rtol=LOSSES)
    losses = [line["loss"] for line in lines["cuda"]]
    assert losses == sorted(losses, reverse=True)  # it learns
    before, after = (read_newest(checkpoints_of(run), pytest.fail) for run in trained.values())
    assert before is not None
    assert after is not None
    for name in (name for name in before.arrays if name.startswith(("model.", "optimizer."))):
        wanted = before.arrays[name]
        assert_allclose(after.arrays[name], wanted, rtol=LOSSES, atol=LOSSES * np.abs(wanted).max(), err_msg=name)


def test_evaluate_and_predict(trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture = tmp_path / "digit.png"
    Image.fromarray(load("mnist", "test").images[0, 0]).save(picture)
    told = {}
    for device in DEVICES:
        assert main(["evaluate", str(trained["cuda"]), "--device", device]) == 0
        assert main(["predict", str(trained["cuda"]), str(picture), "--device", device]) == 0
        told[device] = capsys.readouterr().out
    assert re.findall("[a-z]+", told["cuda"]) == re.findall("[a-z]+", told["cpu"])
    numbers = {device: re.findall(r"\d+(?:\.\d+)?", told[device]) for device in DEVICES}
    # Percentages are printed with one digit, and counts are whole numbers.
    assert_allclose(*(np.array(numbers[device], float) for device in DEVICES), rtol=LOSSES, atol=0.1)
    accuracy = read_metrics(trained["cuda"] / "metrics.jsonl")[-1]["accuracy"]
    assert f"test accuracy {accuracy:.4f} (" in told["cuda"]


def test_info_names_the_gpu(cupy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("GPU  "))
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    assert properties["name"].decode() in line
    assert f"compute capability {properties['major']}.{properties['minor']}" in line
    for word in ("driver for CUDA", "CuPy", "numba-cuda", "nvJitLink"):
        assert word in line


def config(mnist: str, **changes: Any) -> TrainConfig:
    settings = {"data": mnist, "epochs": 2, "device": "cuda", "deterministic": True, "limit": 80}
    return TrainConfig(**{**settings, **changes})


def test_the_data_set_lies_on_the_gpu(cupy: Any, mnist: str) -> None:
    session = Session(config(mnist, batch_size=32), "cuda")
    assert isinstance(session.feed, Resident)
    for batch, (wanted, wanted_labels) in zip(session.feed.epoch(1, 1), session.batches.epoch(1, 1), strict=True):
        x, labels = batch.load(cupy.full(1, batch.first, np.int32))
        assert_array_equal(x.get(), wanted)
        assert_array_equal(labels.get(), wanted_labels)
    if hasattr(cupy, "vgpu"):  # an epoch's order goes up at its beginning
        cupy.vgpu.reset()
        assert len(list(session.feed.epoch(0))) == 3
        assert {name: count for name, count in cupy.vgpu.counts().items() if name in ("h2d", "d2h")} == {"h2d": 1}


def test_a_data_set_that_leaves_no_room_is_streamed(
    cupy: Any, mnist: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    for kind in (Resident, Streamed):
        run = tmp_path / kind.__name__
        run.mkdir()
        session = Session(config(mnist, batch_size=32), "cuda")
        assert isinstance(session.feed, kind)
        train(session, run, Lines())
        losses[kind] = [line["loss"] for line in read_metrics(run / "metrics.jsonl")]
        room = session.batches.dataset.images.nbytes  # as much again is for the network
        monkeypatch.setattr("cnn.runs.feed.free_memory", lambda room=room: 2 * room - 1)
    assert losses[Resident] == losses[Streamed]


class Stopping(Lines):
    """Interrupts a run after a step, as Ctrl-C would."""

    def __init__(self, stop: int) -> None:
        self.stop = stop

    def step(self, step: int, epoch: int) -> None:
        if step == self.stop:
            raise KeyboardInterrupt


def test_a_deterministic_run_has_the_same_bits_twice_and_resumed(mnist: str, tmp_path: Path) -> None:
    # An epoch has five steps of 16 images, which are replayed from the third one on, and one of 8.
    settings = config(mnist, batch_size=16, limit=88)
    runs = [tmp_path / name for name in ("one", "other", "resumed")]
    for run in runs:
        run.mkdir()
    for run in runs[:2]:
        train(Session(settings, "cuda"), run, Lines())
    with pytest.raises(KeyboardInterrupt):
        train(Session(settings, "cuda"), runs[2], Stopping(10))
    checkpoint = read_newest(checkpoints_of(runs[2]), pytest.fail)
    assert checkpoint is not None
    assert checkpoint.step == 6  # of the first epoch's end
    train(Session(settings, "cuda"), runs[2], Lines(), checkpoint)
    ends = [read_checkpoint(list_checkpoints(checkpoints_of(run))[0]) for run in runs]
    for end in ends[1:]:
        assert end.step == ends[0].step == 12
        for name, array in ends[0].arrays.items():
            assert array.tobytes() == end.arrays[name].tobytes(), name
    losses = [[line["loss"] for line in read_metrics(run / "metrics.jsonl")] for run in runs]
    assert losses[0] == losses[1] == losses[2]
