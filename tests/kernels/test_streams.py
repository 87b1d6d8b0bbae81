"""Results that are written past the caches, as large arrays are: the same as any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_conv_ways import CASES, WAYS, forced

from cnn import kernels
from cnn.kernels.buffers import allocate
from cnn.kernels.cpu import simd_memory
from cnn.kernels.cpu.simd import LANES

Array = np.ndarray[Any, Any]

# Vectors of pixels, and so many bytes that an array begins with a cache line.
SHAPE = (LANES + 1, LANES, 8, 2 * LANES)


def integers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def test_only_large_arrays_of_whole_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    array = allocate(2**20 + LANES, np.float32)
    assert simd_memory.streams(array, 2 * LANES)
    assert not simd_memory.streams(array, 2 * LANES + 1)
    assert not simd_memory.streams(array[1:], LANES)
    assert not simd_memory.streams(array[: 2**20 - LANES], LANES)
    monkeypatch.setattr(simd_memory, "LARGE", 0)
    assert simd_memory.streams(array[:LANES], LANES)


@pytest.mark.parametrize("start", [0, 1, LANES])
@pytest.mark.parametrize("way", CASES)
def test_convolutions(way: str, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simd_memory, "LARGE", 0)
    size = 3 if way in ("winograd", "pixels") else 5
    x, weight = integers(*SHAPE), integers(LANES, LANES, size, size, seed=1)
    g, pads = integers(*SHAPE, seed=2), {"padding": size // 2}
    y, grad_x = (allocate(x.size + start, np.float32)[start:].reshape(SHAPE) for _ in range(2))
    assert simd_memory.streams(y, 16 * LANES) is (start % LANES == 0)
    with forced(WAYS[way]):
        kernels.conv_forward(x, weight, **pads, out=y)
        kernels.conv_input_gradient(g, weight, SHAPE, **pads, out=grad_x)
    with kernels.backend("reference"):
        assert_array_equal(y, kernels.conv_forward(x, weight, **pads))
        assert_array_equal(grad_x, kernels.conv_input_gradient(g, weight, SHAPE, **pads))


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("width", [2 * LANES, 2 * LANES + 1])
def test_batch_norm(width: int, activation: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    x, around, g = (integers(5, LANES, 8, width, seed=seed) for seed in (1, 2, 3))
    weight, bias = np.linspace(-1, 2, LANES, dtype=np.float32), np.linspace(1, -2, LANES, dtype=np.float32)

    def both_ways() -> list[Array]:
        running = np.zeros(LANES, np.float32), np.ones(LANES, np.float32)
        y, saved = kernels.batch_norm_forward(
            x, weight, bias, *running, training=True, activation=activation, around=around
        )
        back = {"activation": activation, "y": y if activation else None}
        return [y, *kernels.batch_norm_backward(g, x, weight, saved, **back)]

    stored = both_ways()
    monkeypatch.setattr(simd_memory, "LARGE", 0)
    streamed = both_ways()
    assert simd_memory.streams(streamed[0], 8 * width) is (width % 2 == 0 or LANES <= 8)
    for one, other in zip(stored, streamed, strict=True):
        assert_array_equal(one, other)
