"""Gathering a batch and counting what is right: numbers by hand, and the bits of `cnn.data.Normalize`."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels
from cnn.data import Normalize

pytestmark = pytest.mark.usefixtures("backend")

STORED = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)


def test_gather_by_hand() -> None:
    images = np.array([[[[0, 255]], [[51, 102]]], [[[255, 0]], [[0, 0]]]], np.uint8)
    y = kernels.gather_batch(images, np.array([1, 0, 0]), (0.5, 0.2), (0.5, 0.1))
    first, second = [[[-1, 1]], [[0, 2]]], [[[1, -1]], [[-2, -2]]]
    assert y.dtype == np.float32
    assert_close(y, [second, first, first], length=4)


@pytest.mark.parametrize("batch", [0, 1, 5, 1000])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_gather_gives_the_bits_of_normalize(batch: int, dtype: type) -> None:
    indices = np.random.default_rng(batch).integers(0, 6, batch).astype(dtype)
    normalize = Normalize((0.1307, 0.4, 0.9), (0.3081, 0.2, 1.5))
    assert_array_equal(
        kernels.gather_batch(STORED, indices, normalize.mean, normalize.std), normalize(STORED[indices]), strict=True
    )


def test_images_are_bytes() -> None:
    for wrong in (STORED.astype(np.float32), STORED.astype(np.int64), STORED.tolist(), None):
        with pytest.raises(kernels.DTypeError, match="gather_batch: images must be a NumPy or CuPy array of uint8"):
            kernels.gather_batch(wrong, np.array([0]), (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("first", [0, 3, 7])
def test_the_next_batch_is_that_of_its_indices(first: int) -> None:
    order, labels = np.array([5, 0, 0, 3, 1, 4, 2, 2, 5]), np.arange(10, 16)
    normalize = {"mean": (0.1, 0.4, 0.9), "std": (0.3, 0.2, 1.5)}
    x, y = kernels.gather_next(STORED, labels, order, np.array([first], np.int32), 2, **normalize)
    picked = order[first : first + 2]
    assert_array_equal(x, kernels.gather_batch(STORED, picked, **normalize))
    assert y.tolist() == (picked + 10).tolist()


def test_a_step_is_recorded() -> None:
    history, counts = np.full(3, np.nan, np.float32), np.array([4, 100], np.int32)
    for number in range(4):
        kernels.record(np.array(number, np.float32), history, counts, images=5)
    assert history.tolist() == [2, 3, 1]  # the fourth is written over the first
    assert counts.tolist() == [8, 120]


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("scores", "label", "correct"),
    [
        ([1, 3, 2], 1, True),
        ([1, 3, 2], 2, False),
        ([3, 1, 3], 0, True),  # the first of equal ones
        ([3, 1, 3], 2, False),
        ([-INF, -INF, -INF], 0, True),
        ([INF, 0, -INF], 0, True),
        ([NAN, 0, 1], 0, False),
        ([NAN, 0, 1], 2, False),
        ([1, 0, NAN], 0, False),
        ([1, 0, NAN], 2, False),
        ([1, 3, 2], -1, False),
        ([1, 2, 3], 3, False),
        ([0.0, -0.0, 0.0], 0, True),
    ],
)
def test_one_row(scores: list[float], label: int, correct: bool) -> None:
    for dtype in (np.float32, np.float64):
        count = kernels.count_correct(np.array([scores], dtype), np.array([label]))
        assert count.shape == ()
        assert count.dtype == np.int32
        assert count == correct


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("images", [0, 1, 17, 1000])
def test_count_by_its_definition(images: int, dtype: type) -> None:
    rng = np.random.default_rng(images)
    scores, labels = rng.integers(-2, 3, (images, 10)).astype(np.float32), rng.integers(0, 10, images)
    expected = sum(max(range(10), key=row.__getitem__) == label for row, label in zip(scores, labels, strict=True))
    assert kernels.count_correct(scores, labels.astype(dtype)) == expected
