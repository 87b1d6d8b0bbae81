"""Dense layers in the simulator: sizes around tiles, runs of channels with and without 128-bit loads, all options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity import check_parity, integers, uniform

# Images, channels, filters: one tile or two, channels that a lane reads in fours or one by one, and none of something.
SIZES = [(0, 8, 4), (1, 1, 1), (3, 0, 2), (9, 12, 8), (3, 70, 9), (1, 129, 3), (2, 1024, 1)]
ACTIVATIONS = [None, "relu", "sigmoid", "tanh"]


def arguments(size: tuple[int, int, int], make: Any, activation: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    images, channels, filters = size
    shared = {"x": make(images, channels), "weight": make(filters, channels), "activation": activation}
    grads = {"grad_weight": np.full((filters, channels), np.nan, np.float32)}
    grads["grad_bias"] = np.full(filters, np.nan, np.float32)
    outputs = {"grad_output": make(images, filters), "y": None if activation is None else make(images, filters, seed=1)}
    return {**shared, "bias": make(filters)}, {**shared, **outputs, **grads, "input_activation": activation}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_integers_exactly(size: tuple[int, int, int]) -> None:
    there, back = arguments(size, integers, "relu")
    check_parity("linear_forward", there)
    check_parity("linear_backward", back, "grad_weight", "grad_bias")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_both_ways(activation: str | None) -> None:
    there, back = arguments((5, 10, 3), uniform, activation)
    check_parity("linear_forward", there, length=16)
    check_parity("linear_backward", back, "grad_weight", "grad_bias", length=16)


def test_what_is_not_there_is_left_out() -> None:
    there, back = arguments((5, 8, 4), integers, None)
    check_parity("linear_forward", {**there, "bias": None})
    back = {**back, "grad_bias": None, "needs_input_gradient": False}
    assert len(check_parity("linear_backward", back, "grad_weight")) == 1


def test_dropout_behind_a_relu() -> None:
    there, back = arguments((3, 10, 7), integers, "relu")
    (y,) = check_parity("linear_forward", {**there, "dropout": (0.5, np.array([1, 2], np.uint64), 3)})
    assert (y > 0).any()
    check_parity("linear_backward", {**back, "y": y, "dropout": 0.5, "input_dropout": 0.75}, "grad_weight", "grad_bias")
