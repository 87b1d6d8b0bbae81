"""The sums of a residual layer in the simulator: whole vectors of four, and what is left over."""

from __future__ import annotations

import pytest
from parity import check_parity, integers, uniform


@pytest.mark.parametrize("size", [0, 3, 4, 70])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_integers_exactly(activation: str | None, size: int) -> None:
    a, b, x = (integers(size, seed=seed) for seed in range(3))
    check_parity("residual_forward", {"body": a, "around": b, "activation": activation})
    before = {} if activation is None else {"input_activation": activation, "x": x}
    check_parity("residual_backward", {"grad_body": a, "grad_around": b, **before})


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_other_activations(activation: str) -> None:
    a, b, x = (uniform(3, 5, seed=seed) for seed in range(3))
    check_parity("residual_forward", {"body": a, "around": b, "activation": activation}, length=4)
    before = {"input_activation": activation, "x": x}
    check_parity("residual_backward", {"grad_body": a, "grad_around": b, **before}, length=4)
