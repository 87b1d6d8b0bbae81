"""What a training loop on a GPU needs besides layers: gathering a batch, counting what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import Array, check_parity, integers, on_device, to_device, to_host

from cnn import kernels
from cnn.data import Normalize

pytestmark = pytest.mark.gpu

NORMALIZE = {"mean": (0.1307, 0.4, 0.9), "std": (0.3081, 0.2, 1.5)}
DTYPES = [np.int32, np.int64, np.uint8]


def stored(channels: int, size: int = 28) -> Array:
    return np.random.default_rng(0).integers(0, 256, (100, channels, size, size), dtype=np.uint8)


def normalize(channels: int) -> dict[str, tuple[float, ...]]:
    return {name: values[:channels] for name, values in NORMALIZE.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (2, 3)])
@pytest.mark.parametrize("batch", [0, 1, 64, 128])
def test_gather(channels: int, size: int, batch: int, dtype: type) -> None:
    # A batch may hold an image twice.
    indices = np.random.default_rng(batch).integers(0, 100, batch).astype(dtype)
    check_parity("gather_batch", {"images": stored(channels, size), "indices": indices, **normalize(channels)})


def test_gather_gives_the_bits_of_normalize() -> None:
    indices = np.arange(99, -1, -2)
    (y,) = on_device("gather_batch", {"images": stored(3), "indices": indices, **NORMALIZE})
    assert_array_equal(y, Normalize(**NORMALIZE)(stored(3)[indices]))


def test_an_index_of_no_image_makes_nan() -> None:
    # The host raises an error; here the indices are never read back.
    indices = np.array([0, -1, 100, 2**32, -(2**63), 3])
    (y,) = on_device("gather_batch", {"images": stored(1), "indices": indices, **normalize(1)})
    assert np.isnan(y).all(axis=(1, 2, 3)).tolist() == [False, True, True, True, True, False]
    (right,) = check_parity("gather_batch", {"images": stored(1), "indices": indices[[0, 5]], **normalize(1)})
    assert_array_equal(y[[0, 5]], right)


def test_gather_from_views() -> None:
    images, indices = stored(3), np.arange(40)
    with kernels.backend("cuda"):
        y = kernels.gather_batch(to_device(images)[1:, ::-1, :, 2:], to_device(indices)[1::3], **NORMALIZE)
    with kernels.backend("reference"):
        expected = kernels.gather_batch(images[1:, ::-1, :, 2:], indices[1::3], **NORMALIZE)
    assert_array_equal(to_host(y), expected)


def following(order: list[int], first: int, size: int, channels: int) -> dict[str, Any]:
    stored_labels = {"images": stored(channels), "labels": np.arange(100)[::-1].copy(), "order": np.array(order)}
    return {**stored_labels, "position": np.array([first], np.int32), "size": size, **normalize(channels)}


@pytest.mark.parametrize(("first", "size"), [(0, 5), (3, 2), (2, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_next_batch(channels: int, first: int, size: int) -> None:
    check_parity("gather_next", following([3, 0, 3, 2, 1], first, size, channels))


def test_what_lies_beyond_an_order_is_no_image() -> None:
    x, labels = on_device("gather_next", following([3, 100, -1, 0], 1, 4, 1))
    assert np.isnan(x).all(axis=(1, 2, 3)).tolist() == [True, True, False, True]
    assert labels.tolist() == [-1, -1, 99, -1]


def test_steps_are_recorded() -> None:
    given = {"value": np.array(0.5, np.float32), "history": np.zeros(3, np.float32)}
    check_parity("record", {**given, "counts": np.array([4, 100], np.int32), "images": 64}, "history", "counts")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("images", "classes"), [(64, 10), (128, 10), (1023, 10), (1025, 10), (5, 200), (3, 1), (0, 3)])
def test_count_correct(images: int, classes: int, dtype: type) -> None:
    # Few values, so that the maximum often stands twice.
    labels = np.random.default_rng(images).integers(0, classes, images).astype(dtype)
    check_parity("count_correct", {"scores": integers(images, classes), "labels": labels})


def test_what_is_not_correct() -> None:
    nan, inf = np.nan, np.inf
    scores = np.array([[1, 1], [1, 1], [nan, 1], [1, nan], [-inf, -inf], [inf, 1], [0, 1], [0, 1]], np.float32)
    labels = np.array([0, 1, 0, 0, 0, 0, 2, -1])
    assert check_parity("count_correct", {"scores": scores, "labels": labels})[0] == 3  # rows 0, 4 and 5


def test_count_in_any_layout() -> None:
    scores, labels = integers(30, 20), np.random.default_rng(0).integers(0, 10, 30)
    count = kernels.count_correct(to_device(scores)[::-1, ::2], to_device(labels)[::-1])
    with kernels.backend("reference"):
        assert to_host(count) == kernels.count_correct(scores[::-1, ::2], labels[::-1])
