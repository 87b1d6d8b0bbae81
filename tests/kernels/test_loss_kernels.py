"""Losses: numbers by hand and from textbooks, reductions, extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")

Array = np.ndarray[Any, Any]

# The worked example of Stanford's CS231n notes: scores of three images for cat, car and frog, one of each.
SCORES = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]], np.float32)
LABELS = np.array([0, 1, 2])
HINGE = [2.9, 0, 12.9]
SOFTMAX_OF_CAT = [0.13, 0.87, 0.00]  # printed with two decimals


def test_hinge_of_three_images_as_published() -> None:
    loss, grad = kernels.hinge(SCORES, LABELS, reduction="none")
    assert_close(loss, HINGE, length=16)
    # One for each class that violates the margin, and minus their number for the label.
    assert_array_equal(grad, [[-1, 1, 0], [0, 0, 0], [1, 1, -2]])
    loss, grad = kernels.hinge(SCORES, LABELS)
    assert_close(loss, sum(HINGE) / 3, length=16)
    assert_close(grad, np.array([[-1, 1, 0], [0, 0, 0], [1, 1, -2]]) / 3, length=4)


def test_hinge_margin() -> None:
    # By hand: with margin 3.0 the second image's other classes violate it by 3 + 1.3 - 4.9 < 0 and 3 + 2 - 4.9 = 0.1.
    loss, grad = kernels.hinge(SCORES[1:2], LABELS[1:2], margin=3.0)
    assert_close(loss, 0.1, length=16)
    assert_array_equal(grad, [[0, -1, 1]])
    # On the margin itself nothing is violated.
    assert_array_equal(kernels.hinge(np.array([[1, 2]], np.float32), np.array([1]))[1], [[0, 0]])


def test_softmax_as_published() -> None:
    loss, grad = kernels.softmax_cross_entropy(SCORES[:1], LABELS[:1])
    np.testing.assert_allclose(grad[0] + np.eye(3)[0], SOFTMAX_OF_CAT, rtol=0, atol=0.0051)
    np.testing.assert_allclose(loss, 2.04, rtol=0, atol=0.0051)  # -ln(0.13), natural, from the unrounded 0.1299


def test_cross_entropy_of_equal_scores() -> None:
    loss, grad = kernels.softmax_cross_entropy(np.full((4, 8), 3, np.float32), np.array([0, 3, 7, 7]))
    assert_close(loss, np.log(8), length=16)
    expected = np.full((4, 8), 1 / 8)
    expected[range(4), [0, 3, 7, 7]] -= 1
    assert_close(grad, expected / 4, length=4)


def test_cross_entropy_of_extreme_scores_is_finite() -> None:
    scores = np.array([[1e4, 0, -1e4], [1e4, 0, -1e4], [1.5e38, -1.5e38, 0]], np.float32)
    loss, grad = kernels.softmax_cross_entropy(scores, np.array([0, 2, 0]), reduction="none")
    assert_array_equal(loss, [0, 2e4, 0])
    assert_array_equal(grad, [[0, 0, 0], [1, 0, -1], [0, 0, 0]])


def test_mean_squared_error() -> None:
    y, target = np.array([[1, 2], [3, 4]], np.float32), np.array([[1, 0], [6, 4]], np.float32)
    for reduction, loss, divisor in (("none", [[0, 4], [9, 0]], 1), ("sum", 13, 1), ("mean", 13 / 4, 4)):
        ours, grad = kernels.mean_squared_error(y, target, reduction=reduction)
        assert_array_equal(ours, loss)
        assert_array_equal(grad, np.array([[0, 4], [-6, 0]]) / divisor)


LABELLED = [kernels.softmax_cross_entropy, kernels.hinge]


@pytest.mark.parametrize("loss", LABELLED)
def test_one_class(loss: Callable[..., tuple[Array, Array]]) -> None:
    value, grad = loss(np.array([[5], [-3]], np.float32), np.array([0, 0]))
    assert value == 0
    assert_array_equal(grad, [[0], [0]])


@pytest.mark.parametrize("loss", LABELLED)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer_type(loss: Callable[..., tuple[Array, Array]], dtype: type) -> None:
    expected = loss(SCORES, LABELS)
    for ours, wanted in zip(loss(SCORES, LABELS.astype(dtype)), expected, strict=True):
        assert_array_equal(ours, wanted)


@pytest.mark.parametrize("loss", LABELLED)
@pytest.mark.parametrize("images", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_reductions_agree(loss: Callable[..., tuple[Array, Array]], images: int, classes: int) -> None:
    rng = np.random.default_rng(images)
    scores, labels = rng.uniform(-1, 1, (images, classes)).astype(np.float32), rng.integers(0, classes, images)
    each, grad = loss(scores, labels, reduction="none")
    total, grad_of_total = loss(scores, labels, reduction="sum")
    mean, grad_of_mean = loss(scores, labels, reduction="mean")
    assert each.shape == (images,)
    assert total.shape == mean.shape == ()
    assert_close(total, each.astype(np.float64).sum(), length=64)
    assert_close(mean, each.astype(np.float64).mean(), length=64)
    assert_close(grad_of_total, grad, length=4)
    assert_close(grad_of_mean, grad.astype(np.float64) / images, length=4)
    # Both losses see differences of scores only, so their gradients add up to nothing.
    assert_close(grad.sum(axis=1), np.zeros(images), length=1024)


@pytest.mark.parametrize("images", [1, 17])
def test_cross_entropy_by_its_formula(images: int) -> None:
    rng = np.random.default_rng(images)
    scores, labels = rng.uniform(-1, 1, (images, 10)).astype(np.float32), rng.integers(0, 10, images)
    powers = np.exp(scores.astype(np.float64))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    loss, grad = kernels.softmax_cross_entropy(scores, labels)
    assert_close(loss, -np.log(softmax[range(images), labels]).mean(), length=16)
    softmax[range(images), labels] -= 1
    assert_close(grad, softmax / images, length=16)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_images(reduction: str) -> None:
    scores = np.empty((0, 3), np.float32)
    expected = {"mean": np.nan, "sum": 0.0, "none": []}[reduction]  # as PyTorch: the mean of nothing is NaN
    for loss, grad in (
        kernels.softmax_cross_entropy(scores, np.empty(0, np.int64), reduction=reduction),
        kernels.hinge(scores, np.empty(0, np.int64), reduction=reduction),
        kernels.mean_squared_error(scores[:, 0], scores[:, 0], reduction=reduction),
    ):
        assert_array_equal(loss, expected)
        assert grad.size == 0


def test_nan_shows_in_the_loss() -> None:
    # A training loop stops on it: it must not vanish in a comparison, wherever it stands.
    for place in range(3):
        scores = SCORES.copy()
        scores[1, place] = np.nan
        assert np.isnan(kernels.softmax_cross_entropy(scores, LABELS)[0])
        assert np.isnan(kernels.hinge(scores, LABELS)[0])
        assert np.isnan(kernels.mean_squared_error(scores, SCORES)[0])
