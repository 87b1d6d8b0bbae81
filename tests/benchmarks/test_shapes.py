"""Suites, and shapes from the command line."""

from __future__ import annotations

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.shapes import PASSES, QUICK_IMAGES, SUITES, Case, cases, parse, suite
from cnn.kernels.suites import SUITES as NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_suite_has_its_layers(name: str) -> None:
    layers = NETWORKS[name].convolutions
    assert [case.name for case in SUITES[name]] == [f"{name}.{layer.name}" for layer in layers]
    for case, layer in zip(SUITES[name], layers, strict=True):
        assert case.geometry.y_shape == layer.conv(NETWORKS[name].batch).y_shape
    # Nothing comes before the first layer that would want its input's gradient.
    assert [case.passes for case in SUITES[name]] == [PASSES[:2], *[PASSES] * (len(layers) - 1)]


def test_small_has_layers_of_every_kind() -> None:
    small = SUITES["small"]
    assert len(small) == 2 + 2 + 4 + 7
    assert {case.images for case in small} >= {1, 7, 64, 100, 128}
    assert any(case.stride == 2 for case in small)
    assert {case.weight[2:] for case in small} == {(1, 1), (3, 3), (5, 5)}


# Output sizes of published layers, worked out by hand: (size + 2 padding - kernel) / stride + 1.
@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("480x48x1 16@3x3", (16, 1, 48, 480), (16, 16, 48, 480)),
        ("108x108x3 64@3x3", (8, 3, 108, 108), (8, 64, 54, 54)),
        ("224x224x3 64@3x3", (16, 3, 224, 224), (16, 64, 224, 224)),
        ("7x7x832 128@5x5", (16, 832, 7, 7), (16, 128, 7, 7)),
    ],
)
def test_deepbench(name: str, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    case = next(case for case in SUITES["deepbench"] if case.name == name)
    assert case.x == x
    assert case.geometry.y_shape == y
    assert (PASSES[2] in case.passes) == (x[1] > 3)


@pytest.mark.parametrize("name", SUITES)
def test_the_shape_of_a_case_is_what_the_command_line_takes(name: str) -> None:
    for case in SUITES[name]:
        parsed = parse(case.shape)
        assert (parsed.x, parsed.weight, parsed.options) == (case.x, case.weight, case.options)


def test_options_of_a_shape() -> None:
    case = parse("3x4x9x8:6x2x3x2:stride=2,padding=1,dilation=2,groups=2")
    assert (case.stride, case.padding, case.dilation, case.groups) == (2, 1, 2, 2)
    assert case.passes == PASSES
    # (9 + 2 - 5) / 2 + 1 and (8 + 2 - 3) / 2 + 1, rounded down.
    assert case.geometry.y_shape == (3, 6, 4, 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("64x1x28x28", "is not written NxCxHxW:KxCxRxS:options, such as 64x1x28x28:6x1x5x5:padding=2"),
        ("64x1x28:6x1x5x5", "is not written"),
        ("64x1x28x28:6x1x5x-5", "is not written"),
        ("64x1x28x28:6x1x5x5:padding=2:stride=1", "is not written"),
        ("64x1x28x28:6x1x5x5:pad=2", "option 'pad=2' is none of stride=NUMBER, padding=NUMBER"),
        ("64x1x28x28:6x1x5x5:padding=two", "option 'padding=two' is none of"),
        ("64x1x28x28:6x2x5x5", "does not fit together"),
        ("64x1x4x4:6x1x5x5", "does not fit together"),
        ("64x1x28x28:6x1x5x5:stride=0", "does not fit together"),
        ("0x1x28x28:6x1x5x5", "leaves nothing to compute"),
    ],
)
def test_shapes_that_are_none(text: str, says: str) -> None:
    with pytest.raises(BenchmarkError) as raised:
        parse(text)
    assert says in str(raised.value)
    assert repr(text) in str(raised.value)


def test_an_unknown_suite_says_which_there_are() -> None:
    with pytest.raises(BenchmarkError, match=r"no suite 'lenet': the suites are lenet5, mnist-cnn, .*small, deepbench"):
        suite("lenet")


def test_cases_come_once_and_quick_ones_are_small() -> None:
    found = cases(["lenet5", "small", "lenet5"], ["2x1x5x5:1x1x3x3"], quick=True)
    assert len(found) == len(SUITES["small"]) + 1
    assert max(case.images for case in found) == QUICK_IMAGES
    assert found[-1] == Case("2x1x5x5:1x1x3x3", (2, 1, 5, 5), (1, 1, 3, 3))
