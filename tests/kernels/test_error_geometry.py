"""Convolutions and windows that do not fit: each rule, in every function that it binds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import WITH_OUT, Arguments
from refusals import check_refused, f32

from cnn import kernels
from cnn.kernels import ShapeError

X, WEIGHT = (2, 4, 7, 6), (6, 4, 3, 2)
PLAIN: Arguments = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "mode": "cross-correlation", "out": None}

# x shape, weight shape, options, and what the text must hold
CONVOLUTIONS: list[tuple[Any, Any, Arguments, list[str]]] = [
    ((2, 4), (6, 4), {}, ["(N, C, L), (N, C, H, W) or (N, C, D, H, W)", "(2, 4)"]),
    ((2, 4, 1, 1, 1, 1), (6, 4, 1, 1, 1, 1), {}, ["(N, C, D, H, W)", "(2, 4, 1, 1, 1, 1)"]),
    (X, (6, 4, 3), {}, ["weight must have as many dimensions as x", "(6, 4, 3)", "(2, 4, 7, 6)"]),
    (X, (6, 3, 3, 2), {}, ["weight.shape[1] must be channels / groups", "= 4", "got 3"]),
    (X, (6, 4, 3, 2), {"groups": 2}, ["weight.shape[1] must be channels / groups", "= 2", "got 4"]),
    (X, (6, 1, 3, 2), {"groups": 3}, ["channels (=4)", "divisible by groups (=3)"]),
    (X, (6, 1, 3, 2), {"groups": 4}, ["filters (=6)", "divisible by groups (=4)"]),
    ((2, 0, 7, 6), (6, 0, 3, 2), {}, ["at least 1", "(2, 0, 7, 6)", "(6, 0, 3, 2)"]),
    (X, (0, 4, 3, 2), {}, ["at least 1", "(0, 4, 3, 2)"]),
    (X, (6, 4, 0, 2), {}, ["at least 1", "(6, 4, 0, 2)"]),
    (X, (6, 4, 8, 2), {}, ["padded input must be at least as large as the dilated kernel", "7", "< 8"]),
    (X, WEIGHT, {"dilation": 4}, ["dilated kernel", "7", "< 9", "(4, 4)"]),
    ((2, 4, 1, 6), (6, 4, 4, 2), {"padding": 1}, ["dilated kernel", "size 1", "(1, 1)", "< 4"]),
    ((2, 4, 0, 6), (6, 4, 1, 1), {}, ["dilated kernel", "size 0", "< 1"]),
    (X, WEIGHT, {"groups": 0}, ["groups must be an int of at least 1", "0"]),
    (X, WEIGHT, {"groups": -2}, ["groups must be an int of at least 1", "-2"]),
    (X, WEIGHT, {"groups": 1.0}, ["groups must be an int of at least 1", "1.0"]),
    (X, WEIGHT, {"groups": None}, ["groups must be an int of at least 1", "None"]),
    (X, WEIGHT, {"groups": "2"}, ["groups must be an int of at least 1", "2"]),
    (X, WEIGHT, {"groups": [1, 1]}, ["groups must be an int of at least 1", "(1, 1)"]),
    (X, WEIGHT, {"mode": "correlation"}, ["('cross-correlation', 'convolution')", "'correlation'"]),
    (X, WEIGHT, {"mode": None}, ["('cross-correlation', 'convolution')", "None"]),
    (X, WEIGHT, {"mode": ["convolution"]}, ["('cross-correlation', 'convolution')", "convolution"]),
    (X, WEIGHT, {"padding": 2**31}, ["padded plane", "more than 2147483647"]),
    (X, WEIGHT, {"padding": "full"}, ["padding must be", '"same"', "'full'"]),
    (X, WEIGHT, {"padding": None}, ["padding must be", "None"]),
    (X, WEIGHT, {"padding": -1}, ["padding must be", "none negative", "-1"]),
    (X, WEIGHT, {"padding": 0.5}, ["padding must be", "0.5"]),
    (X, WEIGHT, {"padding": (1, 1, 1)}, ["for each of 2 dimensions", "(1, 1, 1)"]),
    (X, WEIGHT, {"padding": ((1, 1), (1, -1))}, ["none negative", "((1, 1), (1, -1))"]),
    (X, WEIGHT, {"padding": ((1, 1), (1, 1, 1))}, ["(before, after)", "((1, 1), (1, 1, 1))"]),
    (X, WEIGHT, {"padding": ("same", "same")}, ["padding must be", "('same', 'same')"]),
]
for option in ("stride", "dilation"):
    rule = f"{option} must be an int or 2 ints of at least 1"
    CONVOLUTIONS += [
        (X, WEIGHT, {option: 0}, [rule, "got 0"]),
        (X, WEIGHT, {option: -3}, [rule, "got -3"]),
        (X, WEIGHT, {option: (1, 0)}, [rule, "got (1, 0)"]),
        (X, WEIGHT, {option: [1]}, [rule, "got (1,)"]),
        (X, WEIGHT, {option: (1, 1, 1)}, [rule, "got (1, 1, 1)"]),
        (X, WEIGHT, {option: 1.5}, [rule, "got 1.5"]),
        (X, WEIGHT, {option: "same"}, [rule, "same"]),
        (X, WEIGHT, {option: None}, [rule, "None"]),
        (X, WEIGHT, {option: ((1, 1), (1, 1))}, [rule, "((1, 1), (1, 1))"]),
        (X, WEIGHT, {option: np.array([1, 1])}, [rule, "array([1, 1])"]),
    ]


@pytest.mark.parametrize("name", WITH_OUT)
@pytest.mark.parametrize(("x", "weight", "options", "words"), CONVOLUTIONS, ids=[str(c[3]) for c in CONVOLUTIONS])
def test_convolutions_that_do_not_fit(name: str, x: Any, weight: Any, options: Arguments, words: list[str]) -> None:
    given: Arguments = {
        "conv_forward": {"x": f32(*x), "weight": f32(*weight)},
        "conv_kernel_gradient": {"x": f32(*x), "weight_shape": weight},
        "conv_input_gradient": {"weight": f32(*weight), "input_shape": x},
    }[name]
    # First the same call with nothing wrong in its options, where it has only those: no cache may remember it as good.
    if (x, weight) == (X, WEIGHT):
        kernels.ConvGeometry.of(name, x, weight)
    check_refused(name, {**PLAIN, **given, **options}, ShapeError, *words)


@pytest.mark.parametrize("wrong", [(17, 6, 4, 5), (17, 5, 4, 4), (16, 6, 4, 4), (17, 6, 4), ()])
@pytest.mark.parametrize("name", ["conv_kernel_gradient", "conv_input_gradient"])
def test_a_grad_output_that_is_not_the_output(name: str, wrong: tuple[int, ...]) -> None:
    check_refused(name, {"grad_output": f32(*wrong)}, ShapeError, "must have shape (17, 6, 4, 4)", f"got {wrong}")


@pytest.mark.parametrize("wrong", [None, 3, "abcd", (6, 2, 3, 3.0), (6, 2, 3, None)])
def test_shapes_that_are_none(wrong: Any) -> None:
    check_refused("conv_kernel_gradient", {"weight_shape": wrong}, ShapeError, "sequence of ints", repr(wrong))
    check_refused("conv_input_gradient", {"input_shape": wrong}, ShapeError, "sequence of ints", repr(wrong))
    check_refused("avg_pool_backward", {"input_shape": wrong}, ShapeError, "sequence of ints", repr(wrong))


def test_negative_shapes() -> None:
    check_refused("conv_kernel_gradient", {"weight_shape": (6, 2, -3, 3)}, ShapeError, "negative", "(6, 2, -3, 3)")
    check_refused("conv_input_gradient", {"input_shape": (17, 4, 7, -6)}, ShapeError, "negative", "(17, 4, 7, -6)")
    check_refused("avg_pool_backward", {"input_shape": (17, -4, 7, 6)}, ShapeError, "negative", "(17, -4, 7, 6)")


def test_bias_and_activation() -> None:
    check_refused("conv_forward", {"bias": f32(5)}, ShapeError, "bias must have shape (6,)", "got (5,)")
    check_refused("conv_forward", {"bias": f32(6, 1)}, ShapeError, "bias must have shape (6,)", "got (6, 1)")
    for wrong in ("gelu", "ReLU", 1, ["relu"]):
        check_refused("conv_forward", {"activation": wrong}, ShapeError, "('relu', 'sigmoid', 'tanh')"[1:], repr(wrong))


# x shape, options, and what the text must hold
WINDOWS: list[tuple[Any, Arguments, list[str]]] = [
    ((2, 3), {}, ["(N, C, L), (N, C, H, W) or (N, C, D, H, W)", "(2, 3)"]),
    (X, {"window": 0}, ["window must be an int or 2 ints of at least 1", "got 0"]),
    (X, {"window": None}, ["window must be an int or 2 ints of at least 1", "None"]),
    (X, {"window": (2, 2, 2)}, ["window must be an int or 2 ints of at least 1", "(2, 2, 2)"]),
    (X, {"window": 2.0}, ["window must be an int or 2 ints of at least 1", "2.0"]),
    (X, {"stride": 0}, ["stride must be an int or 2 ints of at least 1", "got 0"]),
    (X, {"stride": (2, "2")}, ["stride must be an int or 2 ints of at least 1", "2"]),
    (X, {"padding": -1}, ["padding must be", "none negative", "-1"]),
    (X, {"padding": "ceil"}, ["padding must be", "'ceil'"]),
    (X, {"padding": 2}, ["padding must be smaller than the window", "(2, 2)", "2"]),
    (X, {"window": 3, "padding": ((0, 3), (0, 0))}, ["padding must be smaller than the window", "(0, 3)", "3"]),
    (X, {"window": 8}, ["at least as large as the window", "size 7", "(0, 0)", "< 8"]),
    (X, {"window": (2, 9), "padding": 1}, ["at least as large as the window", "size 6", "(1, 1)", "< 9"]),
    ((2, 3, 0, 4), {}, ["at least as large as the window", "size 0", "< 2"]),
    ((2, 3, 2, 4), {"window": 4, "stride": 1, "ceil_mode": True}, ["no window fits size 2", "window 4"]),
]


@pytest.mark.parametrize(("shape", "options", "words"), WINDOWS, ids=[str(w[2]) for w in WINDOWS])
def test_windows_that_do_not_fit(shape: Any, options: Arguments, words: list[str]) -> None:
    given = {"window": 2, "stride": None, "padding": 0, "ceil_mode": False, **options}
    check_refused("avg_pool_backward", {**given, "input_shape": shape}, ShapeError, *words)
    for name in ("max_pool_forward", "avg_pool_forward"):
        check_refused(name, {**given, "x": f32(*shape)}, ShapeError, *words)


@pytest.mark.parametrize("name", ["max_pool_backward", "avg_pool_backward"])
def test_planes_that_32_bits_cannot_index(name: str) -> None:
    wrong = (17, 4, 2**16, 2**15)
    check_refused(name, {"input_shape": wrong}, ShapeError, "plane", "more than 2147483647")


def test_a_grad_output_that_is_not_the_pooled() -> None:
    wrong = f32(17, 4, 4, 4)
    check_refused(
        "avg_pool_backward", {"grad_output": wrong}, ShapeError, "must have shape (17, 4, 4, 3)", "(17, 4, 4, 4)"
    )
