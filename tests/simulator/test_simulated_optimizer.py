"""Optimiser updates in the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from parity import check_parity, integers, uniform


@pytest.mark.parametrize("size", [0, 1, 130])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(size: int, nesterov: bool) -> None:
    arrays = {"value": uniform(size), "gradient": uniform(size, seed=1), "velocity": uniform(size, seed=2)}
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01}
    check_parity("sgd_update", {**arrays, **options}, "value", "velocity", length=16)


def test_sgd_exactly() -> None:
    arrays = {"value": integers(9), "gradient": integers(9, seed=1), "velocity": integers(9, seed=2)}
    options = {"lr": 0.5, "momentum": 0.5, "nesterov": True, "weight_decay": 0.25}
    check_parity("sgd_update", {**arrays, **options}, "value", "velocity")


@pytest.mark.parametrize("size", [0, 1, 130])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam(size: int, decoupled: bool) -> None:
    arrays = {"value": uniform(size), "gradient": uniform(size, seed=1), "mean": uniform(size, seed=2)}
    arrays["square"] = np.abs(uniform(size, seed=3))
    for step in (1, 1000):
        # eps keeps the quotient of two small numbers from magnifying their rounding.
        options = {"step": step, "lr": 0.1, "eps": 0.1, "weight_decay": 0.01, "decoupled": decoupled}
        check_parity("adam_update", {**arrays, **options}, "value", "mean", "square", length=16)
