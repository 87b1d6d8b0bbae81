"""TrainStep: the three calls by hand, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from peers import mnist_like, uniform

import cnn
from cnn.kernels import buffers


def small() -> cnn.Sequential:
    cnn.manual_seed(4)
    return cnn.Sequential(
        cnn.Conv2d(1, 4, 3, padding=1),
        cnn.BatchNorm2d(4),
        cnn.ReLU(),
        cnn.MaxPool2d(2),
        cnn.Residual(cnn.Conv2d(4, 4, 3, padding=1), cnn.ReLU()),
        cnn.Dropout(0.2),
        cnn.Flatten(),
        cnn.Linear(64, 10),
    )


def test_it_is_the_three_calls() -> None:
    model, by_hand = small(), small()
    criterion, optimizer = cnn.CrossEntropyLoss(), cnn.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1, momentum=0.9))
    losses, losses_by_hand = [], []
    cnn.manual_seed(9)
    for number in range(4):
        losses.append(step(*mnist_like(number, 5, 1, 8, 8)))
    cnn.manual_seed(9)
    for number in range(4):
        x, labels = mnist_like(number, 5, 1, 8, 8)
        losses_by_hand.append(criterion(by_hand(x), labels))
        assert by_hand.backward(criterion.backward()).shape == x.shape
        optimizer.step()
    assert losses[0].shape == ()
    np.testing.assert_array_equal(losses, losses_by_hand)
    expected = by_hand.state_dict()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


def test_it_asks_for_no_gradient_of_the_images() -> None:
    asked = []

    class Asked(cnn.Linear):
        def backward(self, grad_output: Any, *, needs_input_gradient: bool = True) -> Any:
            asked.append(needs_input_gradient)
            return super().backward(grad_output, needs_input_gradient=needs_input_gradient)

    model = Asked(3, 2)
    cnn.TrainStep(model, cnn.MSELoss(), cnn.SGD(model.parameters(), lr=0.1))(uniform(0, 4, 3), uniform(1, 4, 2))
    assert asked == [False]


def test_it_learns() -> None:
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.Adam(model.parameters(), lr=0.01))
    x, labels = mnist_like(0, 16, 1, 8, 8)
    losses = [float(step(x, labels)) for _ in range(40)]
    assert losses[0] > 2
    assert losses[-1] < 0.5  # sixteen images are soon known by heart


@pytest.mark.parametrize("break_it", ["evaluation mode", "label"])
def test_a_step_that_fails_writes_no_parameter(break_it: str) -> None:
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1))
    x, labels = mnist_like(0, 5, 1, 8, 8)
    if break_it == "label":
        labels[3] = 10
    else:
        model.eval()
    before = [p.data.copy() for p in model.parameters()]
    with pytest.raises((ValueError, RuntimeError), match=r"for image 3|backward needs a forward pass in training mode"):
        step(x, labels)
    for p, value in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, value)


def test_memory_is_allocated_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [0]
    real = buffers.allocate

    def counted(shape: Any, dtype: Any, like: Any = None) -> Any:
        counts[-1] += 1
        return real(shape, dtype, like)

    monkeypatch.setattr(buffers, "allocate", counted)
    monkeypatch.setattr("cnn.step.allocate", counted)
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1))
    for batch in (8, 3, 8, 3, 3, 8):
        step(*mnist_like(0, batch, 1, 8, 8))
        counts.append(0)
    assert [count > 0 for count in counts] == [True, True, False, False, False, False, False]


def test_a_loss_is_the_callers_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn.step.LOSSES", 3)
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1))
    kept = [step(*mnist_like(number, 5, 1, 8, 8)) for number in range(8)]
    again = small()
    step = cnn.TrainStep(again, cnn.CrossEntropyLoss(), cnn.SGD(again.parameters(), lr=0.1))
    assert [float(loss) for loss in kept] == [float(step(*mnist_like(number, 5, 1, 8, 8))) for number in range(8)]


def test_a_loss_for_each_image_is_kept_too() -> None:
    model = cnn.Linear(3, 2)
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(reduction="none"), cnn.SGD(model.parameters(), lr=0.1))
    first = step(uniform(0, 4, 3), np.array([0, 1, 1, 0]))
    copy = first.copy()
    step(uniform(1, 4, 3), np.array([0, 1, 1, 0]))
    assert first.shape == (4,)
    np.testing.assert_array_equal(first, copy)


def test_what_is_computed_by_hand_is_left_alone() -> None:
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1))
    x, labels = mnist_like(0, 5, 1, 8, 8)
    step(x, labels)
    y = model(x)
    copy = y.copy()
    step(x, labels)
    np.testing.assert_array_equal(y, copy)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_reaches_every_layer(deterministic: bool) -> None:
    model = small()
    cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1), deterministic=deterministic)
    assert [layer.deterministic for layer in model.modules()] == [deterministic] * len(list(model.modules()))


def test_too_little_memory_is_told_in_words() -> None:
    class Huge(cnn.MSELoss):
        def __call__(self, output: Any, target: Any) -> Any:
            raise MemoryError("Unable to allocate 8 EiB")

    model = cnn.Linear(3, 2)
    step = cnn.TrainStep(model, Huge(), cnn.SGD(model.parameters(), lr=0.1))
    with pytest.raises(MemoryError) as raised:
        step(uniform(0, 4, 3), uniform(1, 4, 2))
    assert str(raised.value) == (
        "TrainStep: 'cpu' has too little memory for a batch of shape (4, 3), take a smaller one: "
        "Unable to allocate 8 EiB"
    )


def test_importing_cnn_leaves_the_heavy_packages_alone() -> None:
    code = "import sys, cnn; print(*sorted({'numba', 'PIL', 'matplotlib', 'pooch', 'rich'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
