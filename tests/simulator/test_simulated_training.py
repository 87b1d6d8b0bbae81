"""Training in the simulator: two steps of a tiny network come out as on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

import cnn
from cnn import kernels

# Two steps of sums of up to a hundred terms: the digits that float32 has, but for the last.
CLOSE = 1e-6


def tiny() -> cnn.Sequential:
    cnn.manual_seed(3)
    return cnn.Sequential(
        cnn.Conv2d(1, 2, 3, padding=1),
        cnn.ReLU(),
        cnn.MaxPool2d(2),
        cnn.Conv2d(2, 3, 1, bias=False),
        cnn.BatchNorm2d(3),
        cnn.Residual(cnn.Conv2d(3, 3, 1), cnn.Tanh()),
        cnn.AvgPool2d(3),
        cnn.Dropout(0.2),
        cnn.Flatten(),
        cnn.Linear(3, 4),
        cnn.Sigmoid(),
        cnn.Linear(4, 3),
    )


def test_two_steps_are_those_of_the_cpu() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(-1, 1, (3, 1, 6, 6)).astype(np.float32), np.array([0, 2, 1])
    losses, states = {}, {}
    for backend in ("cpu", "cuda"):
        model = tiny()
        optimizer = cnn.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer)
        cnn.manual_seed(1)  # the same elements are dropped out on both
        with kernels.backend(backend):
            losses[backend] = [float(step(x, labels)) for _ in range(2)]
        states[backend] = model.state_dict()
    assert losses["cpu"][1] < losses["cpu"][0]
    assert_allclose(losses["cuda"], losses["cpu"], rtol=CLOSE)
    for name, array in states["cpu"].items():
        assert_allclose(states["cuda"][name], array, rtol=CLOSE, atol=CLOSE, err_msg=name)
