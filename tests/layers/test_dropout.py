"""Dropout: which elements go, how the rest is scaled, and that the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from peers import uniform

import cnn


def test_elements_are_dropped_or_scaled_and_gradients_go_the_same_way() -> None:
    cnn.manual_seed(3)
    layer = cnn.Dropout(0.25)
    x, g = np.abs(uniform(0, 100, 400)) + 1, uniform(1, 100, 400)
    y = layer(x)
    kept = y != 0
    np.testing.assert_array_equal(y, np.where(kept, x * (np.float32(1) / np.float32(0.75)), 0))
    np.testing.assert_array_equal(layer.backward(g), np.where(kept, g * (np.float32(1) / np.float32(0.75)), 0))
    # 40,000 draws: the standard deviation of the fraction is 0.0022.
    assert kept.mean() == pytest.approx(0.75, abs=5 * 0.0022)
    assert y.dtype == np.float32


def test_evaluation_changes_nothing() -> None:
    x = uniform(0, 3, 4)
    assert cnn.Dropout(0.5).eval()(x) is x


@pytest.mark.parametrize(("p", "factor"), [(0.0, 1), (1.0, 0)])
def test_limits(p: float, factor: int) -> None:
    x = uniform(0, 5, 6)
    layer = cnn.Dropout(p)
    np.testing.assert_array_equal(layer(x), factor * x)
    np.testing.assert_array_equal(layer.backward(x), factor * x)


def test_the_seed_decides_in_every_precision() -> None:
    x = uniform(0, 20, 30)
    layer = cnn.Dropout()
    cnn.manual_seed(1)
    first, second = layer(x), layer(x)
    cnn.manual_seed(1)
    np.testing.assert_array_equal(layer(x), first)
    assert (second != first).any()
    cnn.manual_seed(1)
    double = layer(x.astype(np.float64))
    assert double.dtype == np.float64
    np.testing.assert_array_equal(double != 0, first != 0)
