"""The code-generation report lists what a training step launches, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnn
from cnn.kernels.precision import PRECISIONS
from cnn.kernels.suites import SUITES

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import launch as launching
from cnn.kernels.cuda.codegen.launches import training_step
from cnn.kernels.cuda.compiler import Kernel

pytestmark = pytest.mark.gpu

IMAGES = 2


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SUITES)
def test_the_kernels_of_a_step(cupy: Any, monkeypatch: pytest.MonkeyPatch, name: str, precision: str) -> None:
    suite = SUITES[name].computed_in(precision)
    model = cnn.models.build(name, suite.image, suite.classes).set_precision(precision).to("cuda")
    step = cnn.TrainStep(
        model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    )
    rng = np.random.default_rng(0)
    x = cupy.asarray(rng.uniform(-1, 1, (IMAGES, *suite.image)).astype(np.float32))
    labels = cupy.asarray(rng.integers(0, suite.classes, IMAGES))
    launched: list[tuple[Kernel, tuple[int, ...], tuple[int, ...]]] = []

    def recorded(kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], *_arguments: Any) -> None:
        if 0 not in grid:
            launched.append((kernel, grid, block))

    # Recorded and not run: what a step launches does not depend on the numbers.
    monkeypatch.setattr(launching, "launch", recorded)
    step(x, labels)
    listed = [work.launch for work in training_step(suite, IMAGES) if work.launch and work.layer != "batch"]
    assert [kernel.name for kernel, _, _ in launched] == [launch.kernel.name for launch in listed]
    for (kernel, grid, block), launch in zip(launched, listed, strict=True):
        assert kernel is launch.kernel
        assert (grid, block) == (launch.grid, launch.block)
