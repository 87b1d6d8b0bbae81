"""The rules of Dataset, its subsets, and the split rule for undivided sources."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cnn.data.dataset import Dataset
from cnn.data.split import holdout

IMAGES = np.arange(6 * 2 * 3 * 4, dtype=np.uint8).reshape(6, 2, 3, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2])
CLASSES = ("a", "b", "c")


def test_a_dataset():
    dataset = Dataset(IMAGES, LABELS, CLASSES)
    assert len(dataset) == 6
    assert dataset.image_shape == (2, 3, 4)
    assert len(Dataset(IMAGES.astype(np.float32), LABELS, CLASSES)) == 6
    assert len(Dataset(IMAGES[:0], LABELS[:0], CLASSES)) == 0


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES[0], LABELS, CLASSES, r"shape \(N, C, H, W\), not a uint8 array of shape \(2, 3, 4\)"),
        (IMAGES.astype(np.int32), LABELS, CLASSES, "not a int32 array"),
        (IMAGES.astype(np.float64), LABELS, CLASSES, "not a float64 array"),
        (IMAGES.astype(">f4"), LABELS, CLASSES, "not a >f4 array"),
        (IMAGES.tolist(), LABELS, CLASSES, "not list"),
        (IMAGES[:, :0], LABELS, CLASSES, r"images of shape \(6, 0, 3, 4\) have no pixels"),
        (IMAGES, LABELS.astype(np.int32), CLASSES, "labels are an int64 array"),
        (IMAGES, LABELS[:, np.newaxis], CLASSES, r"labels .* not a int64 array of shape \(6, 1\)"),
        (IMAGES, LABELS.tolist(), CLASSES, "labels are an int64 array"),
        (IMAGES, LABELS[:5], CLASSES, "6 images but 5 labels"),
        (IMAGES, LABELS, CLASSES[:2], r"label 2 of image 2 is outside 0\.\.1 \(2 of 6 labels are\)"),
        (IMAGES, LABELS - 1, CLASSES, r"label -1 of image 0 is outside 0\.\.2"),
        (IMAGES, LABELS, list(CLASSES), "classes are a tuple of names"),
        (IMAGES, LABELS, (0, 1, 2), "classes are a tuple of names"),
        (IMAGES[:0], LABELS[:0], (), "at least one class"),
    ],
)
def test_broken_rules(images, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        Dataset(images, labels, classes)


@pytest.mark.parametrize(
    ("indices", "picked"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        ([4, 0, 4], [4, 0, 4]),
        ([], []),
        (np.array([5, 1]), [5, 1]),
        (np.array([True, False, False, True, False, False]), [0, 3]),
    ],
)
def test_subset(indices, picked):
    part = Dataset(IMAGES, LABELS, CLASSES).subset(indices)
    assert part.images.tolist() == [IMAGES[number].tolist() for number in picked]
    assert part.labels.tolist() == [int(LABELS[number]) for number in picked]
    assert part.classes == CLASSES


def test_a_slice_copies_nothing():
    assert np.shares_memory(Dataset(IMAGES, LABELS, CLASSES).subset(slice(2, 4)).images, IMAGES)


@pytest.mark.parametrize("indices", [[6], np.array([-7]), np.array([True, False])])
def test_subset_outside(indices):
    with pytest.raises(IndexError):
        Dataset(IMAGES, LABELS, CLASSES).subset(indices)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 101])
def test_holdout_is_every_tenth(count):
    train, test = holdout(count, "train").tolist(), holdout(count, "test").tolist()
    assert test == list(range(9, count, 10))
    assert sorted(train + test) == list(range(count))


def test_import_brings_only_numpy():
    """Whoever only imports the package does not wait for what only some loaders need."""
    script = "import sys, cnn.data; print(*{'pooch', 'PIL', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
