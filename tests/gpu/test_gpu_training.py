"""Training on a GPU: what the CPU backend computes, without an allocation or a read-back from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import cnn
from cnn.cli import main
from cnn.data import load
from cnn.kernels.cuda import launch
from cnn.runs.checkpoint import list_checkpoints, read_checkpoint, read_newest
from cnn.runs.config import TrainConfig
from cnn.runs.display import Lines
from cnn.runs.feed import Resident
from cnn.runs.folder import checkpoints_of
from cnn.runs.metrics import read_metrics
from cnn.runs.session import Session
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
    for name, array in before.arrays.items():
        assert_allclose(after.arrays[name], array, rtol=LOSSES, atol=LOSSES * np.abs(array).max(), err_msg=name)


def test_evaluate_and_predict(trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture = tmp_path / "digit.png"
    Image.fromarray(load("mnist", "test").images[0, 0]).save(picture)
    told = {}
    for device in DEVICES:
        assert main(["evaluate", str(trained["cuda"]), "--device", device]) == 0
        assert main(["predict", str(trained["cuda"]), str(picture), "--device", device]) == 0
        told[device] = capsys.readouterr().out
    assert told["cuda"] == told["cpu"]  # the same network, to the digits that are printed
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


def small() -> cnn.Sequential:
    """Every kind of layer that has kernels of its own, on images of 1 x 8 x 8."""
    cnn.manual_seed(4)
    return cnn.Sequential(
        cnn.Conv2d(1, 4, 3, padding=1, bias=False),
        cnn.BatchNorm2d(4),
        cnn.ReLU(),
        cnn.MaxPool2d(2),
        cnn.Residual(cnn.Conv2d(4, 4, 3, padding=1), cnn.Tanh(), shortcut=cnn.Conv2d(4, 4, 1)),
        cnn.LeakyReLU(),
        cnn.AvgPool2d(2),
        cnn.Dropout(0.2),
        cnn.Flatten(),
        cnn.Linear(16, 12),
        cnn.Sigmoid(),
        cnn.Linear(12, 10, bias=False),
    )


def images(seed: int, batch: int, *shape: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (batch, *shape)).astype(np.float32), rng.integers(0, 10, batch)


def sgd(parameters: list[cnn.Parameter]) -> cnn.Optimizer:
    return cnn.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("optimizer", [sgd, lambda parameters: cnn.AdamW(parameters, lr=0.01)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_steps_are_those_of_the_cpu(cupy: Any, optimizer: Callable[..., cnn.Optimizer], deterministic: bool) -> None:
    losses, states = {}, {}
    for device in DEVICES:
        model = small().to(device)
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer(model.parameters()), deterministic=deterministic)
        cnn.manual_seed(9)  # the same images are dropped out on both
        place = np.asarray if device == "cpu" else cupy.asarray
        # Another batch size in between: its memory is not that of the others.
        kept = [step(*map(place, images(number, batch, 1, 8, 8))) for number, batch in enumerate((5, 5, 3, 5))]
        losses[device] = [float(loss) for loss in kept]
        states[device] = model.state_dict()
    assert_allclose(losses["cuda"], losses["cpu"], rtol=LOSSES)
    for name, array in states["cpu"].items():
        assert_allclose(states["cuda"][name], array, rtol=LOSSES, atol=LOSSES, err_msg=name)


def lenet5_step(**options: Any) -> tuple[cnn.Layer, cnn.TrainStep]:
    cnn.manual_seed(0)
    model = cnn.models.lenet5().to("cuda")
    return model, cnn.TrainStep(model, cnn.CrossEntropyLoss(), sgd(model.parameters()), **options)


LENET5_STEP = [
    *("conv_direct", "max_pool_forward"),
    *("pack_weights", "conv_product", "max_pool_forward"),
    *("matmul", "add_bias", "matmul", "add_bias", "matmul", "add_bias"),
    "softmax_cross_entropy",
    *("bias_backward", "matmul", "matmul", "bias_backward", "matmul", "matmul", "bias_backward", "matmul", "matmul"),
    *("max_pool_backward", "relu_backward", "conv_kernel_gradient", "pack_weights", "conv_product"),
    *("max_pool_backward", "relu_backward", "conv_kernel_gradient"),
    "sgd_update",
]


def test_launches_of_a_step(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    run, matmul = launch.launch, cupy.matmul
    monkeypatch.setattr(launch, "launch", lambda kernel, *rest: names.append(kernel.name) or run(kernel, *rest))
    monkeypatch.setattr(cupy, "matmul", lambda *args, **rest: names.append("matmul") or matmul(*args, **rest))
    _, step = lenet5_step()
    x, labels = map(cupy.asarray, images(0, 64, 1, 28, 28))
    step(x, labels)
    names.clear()
    if hasattr(cupy, "vgpu"):
        cupy.vgpu.reset()
    step(x, labels)
    assert names == LENET5_STEP
    assert len(names) <= 30
    if hasattr(cupy, "vgpu"):  # nothing runs beside these but clearing four gradients and keeping the loss
        assert cupy.vgpu.counts() == {"kernel": 21, "library": 9, "memset": 4, "copy": 1, "host_launches": 35}
        assert not cupy.vgpu.findings()


@pytest.fixture
def allocations(cupy: Any) -> Iterator[list[int]]:
    """The sizes of all device memory asked for, CuPy's own temporaries included."""
    sizes: list[int] = []
    before = cupy.cuda.get_allocator()

    def counting(size: int) -> Any:
        sizes.append(size)
        return before(size)

    cupy.cuda.set_allocator(counting)
    yield sizes
    cupy.cuda.set_allocator(before)


def test_a_step_allocates_nothing_and_reads_nothing_back(cupy: Any, allocations: list[int]) -> None:
    model, step = lenet5_step()
    full, rest = (tuple(map(cupy.asarray, images(0, batch, 1, 28, 28))) for batch in (64, 16))
    step(*full)
    step(*rest)
    assert allocations
    allocations.clear()
    if hasattr(cupy, "vgpu"):
        cupy.vgpu.reset()
    losses = [step(*batch) for batch in (full, rest, full)]
    assert not allocations
    if hasattr(cupy, "vgpu"):
        assert not {"d2h", "h2d", "host_waits"} & set(cupy.vgpu.counts())
    values = [float(loss) for loss in losses]
    assert len(set(values)) == 3  # each was kept


def test_there_and_back(cupy: Any) -> None:
    model = small()
    state = model.state_dict()
    assert model.to("cuda") is model
    assert all(isinstance(p.data, cupy.ndarray) and isinstance(p.grad, cupy.ndarray) for p in model.parameters())
    for name, array in model.state_dict().items():
        assert isinstance(array, np.ndarray)
        assert_array_equal(array, state[name])
    other = {name: array + 1 for name, array in state.items()}
    model.load_state_dict(other)
    model.to("cpu")
    for name, array in model.state_dict().items():
        assert_array_equal(array, other[name])
    x, _ = images(0, 3, 1, 8, 8)
    assert isinstance(model.eval()(x), np.ndarray)


def test_an_optimiser_goes_along(cupy: Any) -> None:
    states = {}
    for device in DEVICES:
        model, target = small().to("cpu"), small().to(device)
        optimizer = cnn.Adam(model.parameters(), lr=0.01)
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer)
        cnn.manual_seed(9)
        step(*images(0, 5, 1, 8, 8))
        target.load_state_dict(model.state_dict())
        further = cnn.Adam(target.parameters(), lr=0.5)
        further.load_state_dict(optimizer.state_dict())
        place = np.asarray if device == "cpu" else cupy.asarray
        cnn.TrainStep(target, cnn.CrossEntropyLoss(), further)(*map(place, images(1, 5, 1, 8, 8)))
        states[device] = further.state_dict()
    assert states["cuda"]["scalars"] == states["cpu"]["scalars"]
    for name, array in states["cpu"]["arrays"].items():
        assert_allclose(states["cuda"]["arrays"][name], array, rtol=LOSSES, atol=LOSSES, err_msg=name)


def config(mnist: str, **changes: Any) -> TrainConfig:
    settings = {"data": mnist, "epochs": 2, "device": "cuda", "deterministic": True, "checkpoint_every": 3}
    return TrainConfig(**{**settings, **changes})


def test_the_data_set_lies_on_the_gpu(cupy: Any, mnist: str) -> None:
    session = Session(config(mnist), "cuda")
    assert isinstance(session.feed, Resident)
    for (x, labels), (wanted, wanted_labels) in zip(session.feed.epoch(1, 2), session.batches.epoch(1, 2), strict=True):
        assert_array_equal(x.get(), wanted)
        assert_array_equal(labels.get(), wanted_labels)
    if hasattr(cupy, "vgpu"):  # an epoch's order and labels go up at its beginning
        cupy.vgpu.reset()
        assert len(list(session.feed.epoch(0))) == 4
        assert {name: count for name, count in cupy.vgpu.counts().items() if name in ("h2d", "d2h")} == {"h2d": 2}


class Stopping(Lines):
    """Interrupts a run after a step, as Ctrl-C would."""

    def __init__(self, stop: int) -> None:
        self.stop = stop

    def step(self, step: int, epoch: int) -> None:
        if step == self.stop:
            raise KeyboardInterrupt


def test_a_deterministic_run_has_the_same_bits_twice_and_resumed(mnist: str, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("one", "other", "resumed")]
    for run in runs:
        run.mkdir()
    for run in runs[:2]:
        train(Session(config(mnist), "cuda"), run, Lines())
    with pytest.raises(KeyboardInterrupt):
        train(Session(config(mnist), "cuda"), runs[2], Stopping(5))
    checkpoint = read_newest(checkpoints_of(runs[2]), pytest.fail)
    assert checkpoint is not None
    assert checkpoint.step == 4  # of the first epoch's end
    train(Session(config(mnist), "cuda"), runs[2], Lines(), checkpoint)
    ends = [read_checkpoint(list_checkpoints(checkpoints_of(run))[0]) for run in runs]
    for end in ends[1:]:
        assert end.step == ends[0].step == 8
        for name, array in ends[0].arrays.items():
            assert array.tobytes() == end.arrays[name].tobytes(), name
    losses = [[line["loss"] for line in read_metrics(run / "metrics.jsonl")] for run in runs]
    assert losses[0] == losses[1] == losses[2]


def test_too_little_memory_is_told_in_words(cupy: Any) -> None:
    _, step = lenet5_step()
    x, labels = map(cupy.asarray, images(0, 64, 1, 28, 28))
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**20)
    try:
        with pytest.raises(
            MemoryError, match=r"TrainStep: there is too little on 'cuda' for a batch of shape \(64, 1,"
        ):
            step(x, labels)
    finally:
        pool.set_limit(size=0)
    step(x, labels)  # and can go on where there is enough again
