"""What a training loop on the GPU needs besides layers, in the simulator: gathering a batch, counting what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import Array, check_parity, integers, on_device

NORMALIZE = {"mean": (0.1307, 0.4, 0.9), "std": (0.3081, 0.2, 1.5)}


def stored(channels: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, (4, channels, 3, 2), dtype=np.uint8)


def normalize(channels: int) -> dict[str, tuple[float, ...]]:
    return {name: values[:channels] for name, values in NORMALIZE.items()}


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("channels", [1, 3])
def test_gather(channels: int, dtype: type) -> None:
    # A batch may hold an image twice.
    indices = np.array([3, 0, 3, 2, 1], dtype)
    check_parity("gather_batch", {"images": stored(channels), "indices": indices, **normalize(channels)})


def test_gather_nothing() -> None:
    given = {"images": stored(1), "indices": np.empty(0, np.int64), **normalize(1)}
    assert check_parity("gather_batch", given)[0].shape == (0, 1, 3, 2)


def test_an_index_of_no_image_makes_nan() -> None:
    # The host raises an error; here the indices are never read back.
    indices = np.array([0, -1, 4, 2**32, 3])
    (y,) = on_device("gather_batch", {"images": stored(1), "indices": indices, **normalize(1)})
    assert np.isnan(y).all(axis=(1, 2, 3)).tolist() == [False, True, True, True, False]
    (right,) = check_parity("gather_batch", {"images": stored(1), "indices": indices[[0, 4]], **normalize(1)})
    assert_array_equal(y[[0, 4]], right)


def following(order: list[int], first: int, size: int, channels: int) -> dict[str, Any]:
    stored_labels = {"images": stored(channels), "labels": np.arange(4)[::-1].copy(), "order": np.array(order)}
    return {**stored_labels, "position": np.array([first], np.int32), "size": size, **normalize(channels)}


@pytest.mark.parametrize(("first", "size"), [(0, 5), (3, 2), (2, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_next_batch(channels: int, first: int, size: int) -> None:
    check_parity("gather_next", following([3, 0, 3, 2, 1], first, size, channels))


def test_what_lies_beyond_an_order_is_no_image() -> None:
    x, labels = on_device("gather_next", following([3, 4, -1, 0], 1, 4, 1))
    assert np.isnan(x).all(axis=(1, 2, 3)).tolist() == [True, True, False, True]
    assert labels.tolist() == [-1, -1, 3, -1]


def test_steps_are_recorded() -> None:
    given = {"value": np.array(0.5, np.float32), "history": np.zeros(3, np.float32)}
    check_parity("record", {**given, "counts": np.array([4, 100], np.int32), "images": 64}, "history", "counts")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize(("images", "classes"), [(5, 3), (70, 4), (3, 1), (0, 3)])
def test_count_correct(images: int, classes: int, dtype: type) -> None:
    # Few values, so that the maximum often stands twice; 70 images are more than a simulated block has threads.
    labels = np.random.default_rng(images).integers(0, classes, images).astype(dtype)
    check_parity("count_correct", {"scores": integers(images, classes), "labels": labels})


def test_what_is_not_correct() -> None:
    nan, inf = np.nan, np.inf
    scores = np.array([[1, 1], [1, 1], [nan, 1], [1, nan], [-inf, -inf], [inf, 1], [0, 1], [0, 1]], np.float32)
    labels = np.array([0, 1, 0, 0, 0, 0, 2, -1])
    assert check_parity("count_correct", {"scores": scores, "labels": labels})[0] == 3  # rows 0, 4 and 5
