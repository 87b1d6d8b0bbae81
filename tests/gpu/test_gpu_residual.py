"""The sums of a residual layer on a GPU: sizes around vectors and blocks."""

from __future__ import annotations

import pytest
from residual_parity import check_integers, check_reals

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("size", [0, 3, 4, 511, 513, 70_000])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_integers_exactly(activation: str | None, size: int) -> None:
    check_integers(activation, size)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_other_activations(activation: str) -> None:
    check_reals(activation, (3, 257))
