"""Whole networks in float64: every gradient against central differences of the loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from peers import uniform
from tolerances import CENTRAL_DIFFERENCE, CENTRAL_DIFFERENCE_STEP

import cnn

NETWORKS: dict[str, Callable[[], cnn.Sequential]] = {
    "convolution": lambda: cnn.Sequential(
        cnn.Conv2d(2, 3, 3, padding=1), cnn.Tanh(), cnn.AvgPool2d(2), cnn.Flatten(), cnn.Linear(27, 4)
    ),
    "true convolution, strided, dilated": lambda: cnn.Sequential(
        cnn.Conv2d(2, 4, 2, stride=2, padding="same", groups=2, mode="convolution"),
        cnn.LeakyReLU(),
        cnn.MaxPool2d(2, 1),
        cnn.Conv2d(4, 3, 2, padding=1, dilation=2, bias=False),
        cnn.Sigmoid(),
        cnn.Flatten(),
        cnn.Linear(12, 4, bias=False),
    ),
    "residual": lambda: cnn.Sequential(
        cnn.Conv2d(2, 2, 1),
        cnn.BatchNorm2d(2),
        cnn.Residual(cnn.Conv2d(2, 2, 3, padding=1), cnn.BatchNorm2d(2), cnn.Tanh()),
        cnn.Residual(cnn.Conv2d(2, 4, 3, 2, 1), shortcut=cnn.Sequential(cnn.Conv2d(2, 4, 1, 2), cnn.BatchNorm2d(4))),
        cnn.AdaptiveAvgPool2d(1),
        cnn.Flatten(),
        cnn.Linear(4, 4),
    ),
}


@pytest.mark.parametrize(
    "criterion", [cnn.CrossEntropyLoss(), cnn.HingeLoss(0.5), cnn.MSELoss()], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name: str, criterion: cnn.Loss) -> None:
    cnn.manual_seed(0)
    model = NETWORKS[name]().double()
    x = uniform(0, 3, 2, 6, 6, dtype="float64")
    target = uniform(1, 3, 4, dtype="float64") if isinstance(criterion, cnn.MSELoss) else np.array([3, 0, 1])

    criterion(model(x), target)
    grad_x = model.backward(criterion.backward())

    for array, gradient in [(x, grad_x), *((p.data, p.grad.copy()) for p in model.parameters())]:
        rng = np.random.default_rng(0)
        for i in [tuple(rng.integers(array.shape)) for _ in range(6)]:
            value = array[i]
            losses = []
            for step in (CENTRAL_DIFFERENCE_STEP, -CENTRAL_DIFFERENCE_STEP):
                array[i] = value + step
                losses.append(float(criterion(model(x), target)))
            array[i] = value
            numeric = (losses[0] - losses[1]) / (2 * CENTRAL_DIFFERENCE_STEP)
            assert gradient[i] == pytest.approx(numeric, rel=CENTRAL_DIFFERENCE, abs=CENTRAL_DIFFERENCE)
