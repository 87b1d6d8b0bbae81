"""ONNX's operator cases, and what PyTorch computed when its layers were recorded, on both backends."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

pytest.importorskip("onnx", reason="runs ONNX's operator cases: pip install numba-cnn[onnx]")

from onnx_cases import Case, Unsupported, node_cases, recorded_cases

# Cases that must be found and computed for each operator, at least: other versions of ONNX may bring more.
LEAST = {
    "AveragePool": 21,
    "BatchNormalization": 9,
    "Conv": 33,
    "ConvTranspose": 14,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "LeakyRelu": 5,
    "MaxPool": 21,
    "MaxUnpool": 1,
    "Momentum": 3,
    "Relu": 2,
    "Sigmoid": 3,
    "SoftmaxCrossEntropyLoss": 6,
    "Tanh": 3,
}
# Why the rest of these operators' cases is not computed.
REASONS = {
    "a loss for every pixel",
    "dampening",
    "dilated pooling",
    "indices into a plane that is not the output's",
    "integer arrays",
    "weighted or ignored classes",
}
# Printed in ONNX's source with four decimals, its input as well.
FOUR_DECIMALS = {"averagepool_2d_ceil_last_window_starts_on_pad"}
# The longest sum in a case; ONNX's numbers are float32, too, and as far off as ours may be.
LENGTH = 256


@cache
def cases() -> list[Case]:
    return [*node_cases(), *recorded_cases()]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("operator", LEAST)
def test_operator(operator: str) -> None:
    computed, unsupported, wrong = [], [], []
    for case in cases():
        if case.operator == operator:
            try:
                pairs = case.run()
            except Unsupported as reason:
                unsupported.append((str(reason), case.name))
                continue
            computed.append(case.name)
            try:
                check(case, pairs)
            except AssertionError as error:
                wrong.append(f"{case.name} {case.attributes}: {error}")
    assert not wrong, "\n".join(wrong)
    assert len(computed) >= LEAST[operator], computed
    assert {reason for reason, _ in unsupported} <= REASONS, unsupported


def check(case: Case, pairs: list[tuple[Any, Any]]) -> None:
    assert pairs
    for ours, theirs in pairs:
        if case.name in FOUR_DECIMALS:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
        else:
            assert_close(ours, theirs, length=LENGTH)
