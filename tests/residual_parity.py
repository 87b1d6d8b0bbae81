"""The sums of a residual layer, both ways, against the reference: for the tests of the GPU and of the simulator."""

from __future__ import annotations

from collections.abc import Callable

from parity import Array, check_parity, integers, uniform


def check_integers(activation: str | None, size: int) -> None:
    """Exactly."""
    _check(integers, activation, (size,), 0)


def check_reals(activation: str, shape: tuple[int, ...]) -> None:
    _check(uniform, activation, shape, 4)


def _check(drawn: Callable[..., Array], activation: str | None, shape: tuple[int, ...], length: int) -> None:
    a, b, x = (drawn(*shape, seed=seed) for seed in range(3))
    check_parity("residual_forward", {"body": a, "around": b, "activation": activation}, length=length)
    before = {} if activation is None else {"input_activation": activation, "x": x}
    check_parity("residual_backward", {"grad_body": a, "grad_around": b, **before}, length=length)
