"""Operations and bytes of a pass, counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.counts import compulsory_bytes, flops
from benchmarks.shapes import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, PASSES, Case

# N, C, H, W = 2, 3, 5, 4 under 4 filters of 3x2: output 3x3, so 2 * 4 * 9 sums of 3 * 6 products.
PLAIN = Case("plain", (2, 3, 5, 4), (4, 3, 3, 2))


def test_operations_of_every_pass() -> None:
    assert flops(PLAIN) == 2 * (2 * 4 * 9) * (3 * 6) == 2592


def test_operations_in_groups_and_with_overhanging_overlays() -> None:
    # Each of 6 filters sees one of 2 groups' 2 channels; padding 1 and stride 2 on 4x4 leave 2x2 outputs.
    case = Case("groups", (1, 4, 4, 4), (6, 2, 3, 3), stride=2, padding=1, groups=2)
    assert case.geometry.y_shape == (1, 6, 2, 2)
    assert flops(case) == 2 * (6 * 4) * (2 * 9) == 864


def test_lenet5s_first_layer() -> None:
    # 64 images, 6 filters of 5x5, 28x28 outputs: 64 * 6 * 784 * 25 multiply-adds.
    case = Case("lenet5.0", (64, 1, 28, 28), (6, 1, 5, 5), padding=2)
    assert flops(case) == 15_052_800
    assert compulsory_bytes(case, FORWARD) == 4 * (64 * 784 + 6 * 25 + 64 * 6 * 784 + 6)


@pytest.mark.parametrize("purpose", PASSES)
def test_bytes_read_and_write_every_number_once(purpose: str) -> None:
    # x 2*3*5*4 = 120, weight 4*3*3*2 = 72, y 2*4*3*3 = 72, and 4 biases where they are added.
    bias = 4 if purpose == FORWARD else 0
    assert compulsory_bytes(PLAIN, purpose) == 4 * (120 + 72 + 72 + bias)


def test_without_a_bias_none_is_read() -> None:
    without = Case("plain", PLAIN.x, PLAIN.weight, bias=False)
    assert compulsory_bytes(without, FORWARD) == 4 * (120 + 72 + 72)


def test_what_a_stride_steps_over_is_not_read() -> None:
    # 1x1 filters at every other pixel of 8x6: 4x3 of 48 positions are met; an input gradient writes all 48.
    case = Case("narrow", (10, 1, 8, 6), (1, 1, 1, 1), stride=2, bias=False)
    met, outputs = 10 * 12, 10 * 12
    assert compulsory_bytes(case, FORWARD) == compulsory_bytes(case, KERNEL_GRADIENT) == 4 * (met + 1 + outputs)
    assert compulsory_bytes(case, INPUT_GRADIENT) == 4 * (480 + 1 + outputs)
