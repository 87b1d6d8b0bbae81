"""Bias and activation of a dense layer in the simulator: columns around a block's, more rows than threads."""

from __future__ import annotations

from typing import Any

import pytest
from parity import check_parity, integers, uniform

SIZES = [(0, 3), (1, 1), (3, 7), (9, 8), (5, 17)]
ACTIVATIONS = [None, "relu", "sigmoid", "tanh"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_both_ways(activation: str | None, size: tuple[int, int]) -> None:
    given: dict[str, Any] = {"x": uniform(*size), "bias": uniform(size[1]), "activation": activation}
    check_parity("add_bias", given, "x", length=4)
    y = {} if activation is None else {"y": uniform(*size, seed=1)}
    given = {"grad_output": uniform(*size), "grad_bias": uniform(size[1]), "activation": activation, **y}
    check_parity("bias_backward", given, "grad_bias", length=16)


def test_integers_exactly() -> None:
    check_parity("add_bias", {"x": integers(9, 10), "bias": integers(10), "activation": "relu"}, "x")
    given = {"grad_output": integers(9, 10), "grad_bias": uniform(10), "activation": "relu"}
    check_parity("bias_backward", {**given, "y": integers(9, 10, seed=1)}, "grad_bias")
