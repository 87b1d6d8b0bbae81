"""The bundled MNIST against its published numbers, and folders of IDX files that somebody else made."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from cnn.data.bundled import MNIST_FOLDER, load_bundled_mnist
from cnn.data.idx import read_idx
from cnn.data.mnist_folder import load_mnist_folder

# Of the uncompressed IDX files, as everyone has them.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@pytest.mark.parametrize("name", SHA256)
def test_bundled_bytes(name):
    array = read_idx(MNIST_FOLDER / f"{name}.gz")
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    assert hashlib.sha256(header + array.tobytes()).hexdigest() == SHA256[name]


def test_attribution_is_there():
    text = (MNIST_FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "CC BY-SA 3.0" in text
    assert "LeCun" in text
    assert all(sha256 in text for sha256 in SHA256.values())


def test_bundled_training_set():
    dataset = load_bundled_mnist("train")
    assert dataset.images.shape == (60000, 1, 28, 28)
    assert dataset.images.dtype == np.uint8
    assert dataset.classes == tuple("0123456789")
    assert dataset.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # Published with the data: http://yann.lecun.com/exdb/mnist/, class counts as in many papers since.
    assert np.bincount(dataset.labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]


def test_bundled_test_set():
    dataset = load_bundled_mnist("test")
    assert dataset.images.shape == (10000, 1, 28, 28)
    assert dataset.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(dataset.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_folder(tmp_path, mnist_folder):
    mnist_folder(tmp_path, train=20, test=10, size=4)
    train, test = load_mnist_folder(tmp_path, "train"), load_mnist_folder(str(tmp_path), "test")
    assert train.images.shape == (20, 1, 4, 4)
    assert train.images[:, 0, 3, 3].tolist() == list(range(20))
    assert train.labels.tolist() == [*range(10), *range(10)]
    assert test.images.shape == (10, 1, 4, 4)
    assert train.classes == test.classes == tuple("0123456789")


def test_folder_with_dots_in_the_names(tmp_path, mnist_folder):
    for path in mnist_folder(tmp_path).iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(load_mnist_folder(tmp_path, "test")) == 10


def test_training_labels_name_the_classes_of_both_splits(tmp_path, mnist_folder):
    mnist_folder(tmp_path, train=4, test=3)
    assert load_mnist_folder(tmp_path, "test").classes == ("0", "1", "2", "3")
    mnist_folder(tmp_path, train=4, test=6)
    with pytest.raises(ValueError, match=r"label 4 of image 4 is outside 0\.\.3 \(2 of 6 labels are\)") as caught:
        load_mnist_folder(tmp_path, "test")
    assert str(tmp_path) in str(caught.value)


def test_labels_outside_of_given_classes(tmp_path, mnist_folder):
    mnist_folder(tmp_path)
    with pytest.raises(ValueError, match=r"label 2 of image 2 is outside 0\.\.1"):
        load_mnist_folder(tmp_path, "train", ("no", "yes"))


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
def test_missing_file(tmp_path, mnist_folder, name):
    (mnist_folder(tmp_path) / name).unlink()
    with pytest.raises(ValueError, match=name.removesuffix(".gz") + r" \(or the same with \.gz\) is missing"):
        load_mnist_folder(tmp_path, "test")
    assert len(load_mnist_folder(tmp_path, "train")) == 20


def test_different_numbers(tmp_path, mnist_folder, idx_bytes):
    (mnist_folder(tmp_path) / "train-labels-idx1-ubyte").write_bytes(idx_bytes([0, 1, 2], (3,)))
    with pytest.raises(ValueError, match="20 images but 3 labels"):
        load_mnist_folder(tmp_path, "train")


def test_images_in_the_place_of_labels(tmp_path, mnist_folder):
    mnist_folder(tmp_path)
    images, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(gzip.decompress(images.read_bytes()))
    with pytest.raises(ValueError, match=r"labels are integers of shape \(N,\), not uint8 of shape \(20, 4, 4\)"):
        load_mnist_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("shape", "kind", "code", "message"),
    [((20, 16), 0x08, "B", r"uint8 of shape \(20, 16\)"), ((20, 4, 4), 0x0B, "h", "int16 of shape")],
)
def test_unsuitable_images(tmp_path, mnist_folder, idx_bytes, shape, kind, code, message):
    path: Path = mnist_folder(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(idx_bytes([0] * 320, shape, kind, code))
    with pytest.raises(ValueError, match=rf"images are uint8 of shape \(N, H, W\), not {message}"):
        load_mnist_folder(tmp_path, "train")


def test_float_and_negative_labels(tmp_path, mnist_folder, idx_bytes):
    path = mnist_folder(tmp_path) / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes([0.0] * 20, (20,), 0x0D, "f"))
    with pytest.raises(ValueError, match="labels are integers"):
        load_mnist_folder(tmp_path, "train")
    path.write_bytes(idx_bytes([-1] * 20, (20,), 0x09, "b"))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": labels go from -1 to -1"):
        load_mnist_folder(tmp_path, "train")


def test_labels_that_would_be_two_thousand_million_classes(tmp_path, mnist_folder, idx_bytes, peak_memory):
    path = mnist_folder(tmp_path) / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes([0] * 19 + [2**31 - 1], (20,), 0x0C, "i"))

    def read() -> None:
        with pytest.raises(ValueError, match=r"labels go from 0 to 2147483647, outside 0\.\.65535"):
            load_mnist_folder(tmp_path, "train")

    assert peak_memory(read) < 1 << 20


def test_split_has_two_values(tmp_path, mnist_folder):
    with pytest.raises(ValueError, match='split is "train" or "test", not \'t10k\''):
        load_mnist_folder(mnist_folder(tmp_path), "t10k")
