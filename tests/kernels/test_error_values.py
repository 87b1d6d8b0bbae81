"""Shapes and options that no call takes: the rule and the numbers in the text, and nothing written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import Arguments
from refusals import check_refused, f32

from cnn.kernels import ShapeError

# name, changes to the valid call of `calls`, and what the text must hold besides the operation
SHAPES: list[tuple[str, Arguments, list[str]]] = [
    ("conv_bias_gradient", {"grad_output": f32(3, 4)}, ["(N, K, *output)", "(3, 4)"]),
    ("conv_bias_gradient", {"grad_output": f32(1, 1, 1, 1, 1, 1)}, ["1 to 3 spatial", "(1, 1, 1, 1, 1, 1)"]),
    (
        "max_pool_backward",
        {"argmax": np.zeros((17, 4, 4, 2), int)},
        ["argmax must have shape (17, 4, 4, 3)", "(17, 4, 4, 2)"],
    ),
    ("max_pool_backward", {"argmax": np.full((17, 4, 4, 3), -1)}, ["argmax must lie in 0..41", "-1"]),
    ("max_pool_backward", {"argmax": np.full((17, 4, 4, 3), 42)}, ["argmax must lie in 0..41", "42"]),
    ("max_pool_backward", {"argmax": np.full((17, 4, 4, 3), 2**63, np.uint64)}, ["0..41", str(2**63)]),
    ("max_pool_backward", {"input_shape": (17, 4, 42)}, ["(17, 4, 42)", "(17, 4, 4, 3)"]),
    ("max_pool_backward", {"input_shape": (16, 4, 7, 6)}, ["images and channels", "(16, 4, 7, 6)", "(17, 4, 4, 3)"]),
    ("max_pool_backward", {"input_shape": (17, 4)}, ["(17, 4)"]),
    ("max_pool_backward", {"input_shape": (17, 4, 0, 6)}, ["(17, 4, 0, 6)"]),
    ("max_pool_backward", {"input_shape": (17, 4, -7, -6)}, ["negative", "(17, 4, -7, -6)"]),
    ("max_pool_backward", {"input_shape": 3}, ["sequence of ints", "3"]),
    ("max_pool_backward", {"input_shape": None}, ["sequence of ints", "None"]),
    ("max_pool_backward", {"window": 2}, ["grad_output must have shape (17, 4, 3, 3)", "(17, 4, 4, 3)"]),
    ("mean_squared_error", {"target": f32(17, 4, 7)}, ["target must have shape (17, 4, 7, 6)", "(17, 4, 7)"]),
    ("mean_squared_error", {"reduction": "max"}, ["('mean', 'sum', 'none')", "'max'"]),
    ("softmax_cross_entropy", {"logits": f32(17)}, ["(N, M)", "(17,)"]),
    ("softmax_cross_entropy", {"logits": f32(17, 0)}, ["at least one class", "(17, 0)"]),
    ("softmax_cross_entropy", {"logits": f32(17, 2, 3)}, ["(N, M)", "(17, 2, 3)"]),
    ("softmax_cross_entropy", {"labels": np.zeros(16, int)}, ["labels must have shape (17,)", "(16,)"]),
    ("softmax_cross_entropy", {"labels": np.zeros((17, 1), int)}, ["labels must have shape (17,)", "(17, 1)"]),
    ("softmax_cross_entropy", {"labels": np.arange(17)}, ["labels must lie in 0..9", "10 for image 10"]),
    ("softmax_cross_entropy", {"labels": -np.arange(17)}, ["labels must lie in 0..9", "-1 for image 1"]),
    ("softmax_cross_entropy", {"labels": np.full(17, 2**63, np.uint64)}, ["0..9", f"{2**63} for image 0"]),
    ("softmax_cross_entropy", {"reduction": None}, ["('mean', 'sum', 'none')", "None"]),
    ("hinge", {"scores": f32(17)}, ["(N, M)", "(17,)"]),
    ("hinge", {"labels": np.full(17, 10)}, ["labels must lie in 0..9", "10 for image 0"]),
    ("hinge", {"reduction": "Mean"}, ["('mean', 'sum', 'none')", "'Mean'"]),
    ("count_correct", {"scores": f32(17)}, ["(N, M)", "(17,)"]),
    ("count_correct", {"scores": f32(17, 0)}, ["at least one class", "(17, 0)"]),
    ("count_correct", {"labels": np.zeros(16, int)}, ["labels must have shape (17,)", "(16,)"]),
    ("gather_batch", {"images": np.zeros((5, 3, 7), np.uint8)}, ["(N, C, H, W)", "(5, 3, 7)"]),
    ("gather_batch", {"images": np.zeros((5, 0, 7, 6), np.uint8)}, ["at least one channel", "(5, 0, 7, 6)"]),
    ("gather_batch", {"indices": np.zeros((17, 1), int)}, ["indices must be (B,)", "(17, 1)"]),
    ("gather_batch", {"indices": np.full(17, 5)}, ["indices must lie in 0..4", "5"]),
    ("gather_batch", {"indices": np.full(17, -1)}, ["indices must lie in 0..4", "-1"]),
    ("gather_batch", {"mean": (0.5, 0.5)}, ["mean must be 3 finite numbers", "(0.5, 0.5)"]),
    ("gather_batch", {"std": (1, 1, float("inf"))}, ["std must be 3 finite numbers", "inf"]),
    ("gather_batch", {"std": (1, 1, 0)}, ["std must be above zero", "0.0"]),
    ("gather_next", {"position": np.array([5], np.int32)}, ["a batch of 17 at 5", "an order of 21"]),
    ("gather_next", {"position": np.array([-1], np.int32)}, ["a batch of 17 at -1", "an order of 21"]),
    ("gather_next", {"order": np.full(21, 5)}, ["order must hold 0..4", "5"]),
    ("gather_next", {"labels": np.zeros(4, int)}, ["labels must have shape (5,)", "(4,)"]),
    ("gather_next", {"size": -1}, ["size must be at least 0", "-1"]),
    ("record", {"value": f32(2)}, ["value must be one number", "(2,)"]),
    ("record", {"history": f32(0)}, ["history must be a contiguous array", "(0,)"]),
    ("record", {"counts": np.zeros(3, np.int32)}, ["counts must have shape (2,)", "(3,)"]),
    ("record", {"images": -1}, ["images must be a whole number from 0 to 2147483647", "-1"]),
    ("record", {"images": 2**31}, ["images must be a whole number from 0 to 2147483647", "2147483648"]),
    ("record", {"images": 1.5}, ["images must be a whole number", "1.5"]),
    ("record", {"made": 2**63}, ["made must be a whole number", "9223372036854775808"]),
    ("gather_batch", {"mean": None}, ["mean must be 3 finite numbers", "None"]),
    ("batch_norm_forward", {"x": f32(4)}, ["(N, C)", "(4,)"]),
    ("batch_norm_forward", {"x": f32(1, 4, 1, 1, 1, 1)}, ["(N, C, *spatial)", "(1, 4, 1, 1, 1, 1)"]),
    ("batch_norm_forward", {"x": f32(1, 4, 1, 1)}, ["more than one value per channel", "(1, 4, 1, 1)"]),
    ("batch_norm_forward", {"weight": f32(5)}, ["weight must have shape (4,)", "(5,)"]),
    ("batch_norm_forward", {"bias": f32(4, 1)}, ["bias must have shape (4,)", "(4, 1)"]),
    ("batch_norm_forward", {"running_mean": f32(3)}, ["running_mean must have shape (4,)", "(3,)"]),
    ("batch_norm_forward", {"running_var": f32(1)}, ["running_var must have shape (4,)", "(1,)"]),
    ("batch_norm_forward", {"around": f32(17, 4, 7)}, ["around must have shape (17, 4, 7, 6)", "(17, 4, 7)"]),
    (
        "batch_norm_backward",
        {"grad_output": f32(17, 4, 7)},
        ["grad_output must have shape (17, 4, 7, 6)", "(17, 4, 7)"],
    ),
    ("batch_norm_forward", {"activation": "gelu"}, ["activation must be one of", "'gelu'"]),
    ("batch_norm_backward", {"activation": None}, ["y and activation come together", "None"]),
    ("batch_norm_backward", {"y": f32(17, 4, 7)}, ["y must have shape (17, 4, 7, 6)", "(17, 4, 7)"]),
    ("residual_forward", {"around": f32(17, 4, 7)}, ["around must have shape (17, 4, 7, 6)", "(17, 4, 7)"]),
    ("residual_forward", {"activation": "gelu"}, ["activation must be one of", "'gelu'"]),
    ("conv_block_backward", {"grad_around": f32(2)}, ["grad_around must have shape (17, 4, 7, 6)", "(2,)"]),
    ("residual_backward", {"grad_around": f32(2)}, ["grad_around must have shape (17, 4, 7, 6)", "(2,)"]),
    ("residual_backward", {"x": None}, ["x and input_activation come together", "'relu'"]),
    ("residual_backward", {"x": f32(2)}, ["x must have shape (17, 4, 7, 6)", "(2,)"]),
    ("batch_norm_backward", {"saved": f32(4, 2)}, ["saved must have shape (2, 4)", "(4, 2)"]),
    ("batch_norm_backward", {"weight": f32(2)}, ["weight must have shape (4,)", "(2,)"]),
    ("sgd_update", {"value": f32(3, 4)}, ["value must be a contiguous array (n,)", "(3, 4)"]),
    ("sgd_update", {"value": f32(6802)[::2]}, ["value must be a contiguous array (n,)"]),
    ("sgd_update", {"gradient": f32(3)}, ["gradient must have shape (3401,)", "(3,)"]),
    ("sgd_update", {"velocity": f32(3400)}, ["velocity must have shape (3401,)", "(3400,)"]),
    ("sgd_update", {"velocity": f32(6802)[::2]}, ["velocity must be contiguous"]),
    ("adam_update", {"mean": f32(4)}, ["mean must have shape (3401,)", "(4,)"]),
    ("adam_update", {"square": f32(6802)[::2]}, ["square must be contiguous"]),
    ("adam_update", {"step": 0}, ["step must be", "at least 1", "0"]),
    ("adam_update", {"betas": (1.0, 0.9)}, ["betas", "1.0"]),
    ("adam_update", {"betas": (0.9, 1.5)}, ["betas", "1.5"]),
    ("adam_update", {"betas": (-0.1, 0.9)}, ["betas", "-0.1"]),
    ("leaky_relu_forward", {"negative_slope": -0.5}, ["negative_slope must be at least 0", "-0.5"]),
    ("leaky_relu_backward", {"negative_slope": float("nan")}, ["negative_slope must be at least 0", "nan"]),
]
SHAPES += [
    (f"{activation}_backward", {"y": f32(17, 4, 6, 7)}, ["y must have shape (17, 4, 7, 6)", "(17, 4, 6, 7)"])
    for activation in ("relu", "leaky_relu", "sigmoid", "tanh")
]


@pytest.mark.parametrize(("name", "changes", "words"), SHAPES, ids=[f"{s[0]}-{s[2]}" for s in SHAPES])
def test_shapes_and_values(name: str, changes: Arguments, words: list[str]) -> None:
    check_refused(name, changes, ShapeError, *words)


NUMBERS = [
    ("leaky_relu_forward", "negative_slope"),
    ("leaky_relu_backward", "negative_slope"),
    ("hinge", "margin"),
    ("batch_norm_forward", "momentum"),
    ("batch_norm_forward", "eps"),
    ("sgd_update", "lr"),
    ("sgd_update", "momentum"),
    ("sgd_update", "weight_decay"),
    ("adam_update", "lr"),
    ("adam_update", "eps"),
    ("adam_update", "weight_decay"),
    ("adam_update", "step"),
    ("adam_update", "betas"),
]


@pytest.mark.parametrize(("name", "key"), NUMBERS)
@pytest.mark.parametrize("wrong", [None, "much", [1, 2, 3], 1j])
def test_what_is_no_number(name: str, key: str, wrong: Any) -> None:
    check_refused(name, {key: wrong}, ShapeError, key, repr(wrong))
