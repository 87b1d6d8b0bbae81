"""Training steps on a GPU: what the CPU backend computes, without an allocation or a read-back from step to step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import cnn

pytestmark = pytest.mark.gpu

DEVICES = ("cpu", "cuda")

# Losses after some steps: rounding differs between the devices, and grows from step to step.
LOSSES = 1e-3


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
    _, step = lenet5_step()
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


def test_neither_does_one_with_images_that_have_to_be_copied(cupy: Any, allocations: list[int]) -> None:
    model = small().to("cuda")
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), sgd(model.parameters()))
    x, labels = map(cupy.asarray, images(0, 5, 1, 8, 9))
    step(x[..., 1:], labels)
    assert allocations
    allocations.clear()
    step(x[..., 1:], labels)
    assert not allocations


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


def test_too_little_memory_is_told_in_words(cupy: Any) -> None:
    _, step = lenet5_step()
    x, labels = map(cupy.asarray, images(0, 64, 1, 28, 28))
    pool = cupy.get_default_memory_pool()
    gc.collect()  # what other tests left could be freed, and used, later
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**16)  # less than any activation of this batch
    try:
        with pytest.raises(MemoryError, match=r"TrainStep: 'cuda' has too little memory .* \(64, 1, 28, 28\)"):
            step(x, labels)
    finally:
        pool.set_limit(size=0)
    step(x, labels)  # and can go on where there is enough again
