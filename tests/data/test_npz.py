"""load_npz against files that NumPy wrote."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.data.npz import load_npz

RAMP = np.arange(20 * 5 * 6, dtype=np.uint32).reshape(20, 5, 6).astype(np.uint8)
LABELS = np.arange(20) % 3
TRAIN, TEST = [number for number in range(20) if number not in (9, 19)], [9, 19]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_undivided(tmp_path, save):
    path = tmp_path / "data.npz"
    save(path, images=RAMP, labels=LABELS)
    train, test = load_npz(path, "train"), load_npz(str(path), "test")
    assert train.images.shape == (18, 1, 5, 6)
    assert train.images.dtype == np.uint8
    np.testing.assert_array_equal(train.images[:, 0], RAMP[TRAIN])
    np.testing.assert_array_equal(test.images[:, 0], RAMP[TEST])
    np.testing.assert_array_equal(train.labels, LABELS[TRAIN])
    np.testing.assert_array_equal(test.labels, LABELS[TEST])
    assert train.classes == test.classes == ("0", "1", "2")


def test_two_splits_as_keras_has_them(tmp_path):
    path = tmp_path / "cifar.npz"
    colour = np.arange(4 * 8 * 8 * 3, dtype=np.uint32).reshape(4, 8, 8, 3).astype(np.uint8)
    y_train = np.array([[0], [1], [4], [2]], dtype=np.uint8)
    np.savez(path, x_train=colour, y_train=y_train, x_test=colour[:2], y_test=np.array([[3], [0]], dtype=np.int32))
    train, test = load_npz(path, "train"), load_npz(path, "test")
    assert train.images.shape == (4, 3, 8, 8)
    assert train.images.flags.c_contiguous
    np.testing.assert_array_equal(train.images[2, 1], colour[2, :, :, 1])
    assert train.labels.tolist() == [0, 1, 4, 2]
    assert test.labels.tolist() == [3, 0]
    assert train.classes == test.classes == ("0", "1", "2", "3", "4")


def test_class_names(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=RAMP, labels=LABELS, classes=np.array(["cat", "dog", "Mähne"]))
    assert load_npz(path, "train").classes == ("cat", "dog", "Mähne")
    np.savez(path, images=RAMP, labels=LABELS, classes=np.array(["cat", "dog"]))
    with pytest.raises(ValueError, match=r"label 2 of image 2 is outside 0\.\.1"):
        load_npz(path, "train")
    np.savez(path, images=RAMP, labels=LABELS, classes=np.arange(3))
    with pytest.raises(ValueError, match=r"classes are strings of shape \(K,\), not int64 of shape \(3,\)"):
        load_npz(path, "train")


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        ((10, 8, 7), (1, 8, 7)),
        ((10, 1, 8, 7), (1, 8, 7)),
        ((10, 3, 8, 7), (3, 8, 7)),
        ((10, 16, 8, 7), (16, 8, 7)),
        ((10, 8, 7, 1), (1, 8, 7)),
        ((10, 8, 7, 3), (3, 8, 7)),
        ((10, 8, 7, 4), (4, 8, 7)),
        ((10, 3, 8, 3), (3, 8, 3)),  # could be both: channels first
    ],
)
def test_layouts(tmp_path, stored, loaded):
    path = tmp_path / "data.npz"
    images = np.zeros(stored, dtype=np.uint8)
    # One pixel: channel 0, row 1, column 2 of image 0.
    images[(0, 1, 2) if len(stored) == 3 else (0, 0, 1, 2) if loaded[0] == stored[1] else (0, 1, 2, 0)] = 255
    np.savez(path, images=images, labels=np.zeros(10, dtype=np.int64))
    dataset = load_npz(path, "train")
    assert dataset.images.shape == (9, *loaded)
    assert np.argwhere(dataset.images).tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats(tmp_path, dtype, order):
    path = tmp_path / "data.npz"
    values = np.linspace(-1, 1, 20 * 30).reshape(20, 5, 6)
    np.savez(path, images=np.array(values, dtype=dtype, order=order), labels=LABELS.astype(">i2"))
    dataset = load_npz(path, "test")
    assert dataset.images.dtype == np.float32
    assert dataset.images.dtype.isnative
    np.testing.assert_array_equal(dataset.images[:, 0], values[TEST].astype(np.float32))


def test_longer_than_a_chunk(tmp_path):
    path = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 256, (10, 600, 500), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(10))
    np.testing.assert_array_equal(load_npz(path, "train").images[:, 0], images[:9])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": RAMP}, "labels missing"),
        ({"labels": LABELS}, "images missing"),
        ({"x_train": RAMP, "y_train": LABELS}, "x_test, y_test missing"),
        ({"pictures": RAMP}, r"images, labels missing; .* there are \['pictures'\]"),
        ({"images": RAMP, "labels": LABELS[:19]}, "20 images but 19 labels"),
        ({"images": RAMP, "labels": LABELS - 1}, "labels go from -1 to 1"),
        ({"images": RAMP, "labels": LABELS * 10**9}, "labels go from 0 to 2000000000"),
        ({"images": RAMP, "labels": LABELS.astype(float)}, "labels are integers"),
        ({"images": RAMP, "labels": LABELS.reshape(10, 2)}, r"not int64 of shape \(10, 2\)"),
        ({"images": RAMP[0], "labels": LABELS}, r"3 or 4 dimensions, not shape \(5, 6\)"),
        ({"images": RAMP.astype(np.int16), "labels": LABELS}, "uint8, float32 or float64, not int16"),
        ({"images": RAMP > 3, "labels": LABELS}, "an array of bool"),
        ({"images": RAMP[:0], "labels": LABELS}, "has a dimension below 1"),
        ({"images": RAMP[:5], "labels": LABELS[:5]}, "5 images, fewer than 10"),
        (
            {"images": np.where(RAMP == 77, np.nan, RAMP), "labels": LABELS},
            "image 2 has values that are not finite",
        ),
        ({"images": RAMP * 1e300, "labels": LABELS}, "not finite in float32"),
    ],
)
def test_unsuitable_arrays(tmp_path, arrays, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load_npz(path, "train")
    assert str(path) in str(caught.value)


def test_labels_outside_of_the_training_classes(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=RAMP, y_train=LABELS, x_test=RAMP, y_test=LABELS + 1)
    with pytest.raises(ValueError, match=r"label 3 of image 2 is outside 0\.\.2"):
        load_npz(path, "test")


class Explosive:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_objects_are_not_unpickled(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.array([Explosive()], dtype=object), labels=LABELS)
    with pytest.raises(ValueError, match="an array of Python objects"):
        load_npz(path, "train")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip archive" * 9, b"PK\x05\x06" + bytes(18)])
def test_not_an_archive(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_npz(path, "train")


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "nothing.npz", "train")


@settings(deadline=None, max_examples=50)
@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=4), order=st.sampled_from("CF"))
def test_any_shape_in_any_order(scratch, shape, order):
    path = scratch / "shape.npz"
    images = np.arange(10 * math.prod(shape), dtype=np.float32).reshape(10, *shape).copy(order=order)
    np.savez(path, images=images, labels=np.arange(10))
    if len(shape) not in (2, 3):
        with pytest.raises(ValueError, match="3 or 4 dimensions"):
            load_npz(path, "train")
        return
    dataset = load_npz(path, "train")
    assert sorted(dataset.images.ravel().tolist()) == images[:9].ravel().tolist()
    assert dataset.images.reshape(9, -1).sum(axis=1).tolist() == images[:9].reshape(9, -1).sum(axis=1).tolist()
