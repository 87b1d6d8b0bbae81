"""load: names, and paths told apart by what is in them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

import cnn.data
from cnn.data.load import load


def test_the_default_is_the_bundled_mnist():
    dataset = load(split="test")
    assert dataset.images.shape == (10000, 1, 28, 28)
    assert dataset.labels[0] == 7


def test_idx_folder(tmp_path, mnist_folder):
    assert load(mnist_folder(tmp_path), "train").images.shape == (20, 1, 4, 4)
    assert load(str(tmp_path), "test").images.shape == (10, 1, 4, 4)


def test_npz_by_content_not_by_name(tmp_path):
    images, labels = np.zeros((20, 6, 5, 3), dtype=np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    (tmp_path / "a.npz").rename(tmp_path / "data")
    assert load(tmp_path / "data", "train").images.shape == (18, 3, 6, 5)


def test_cifar_folders(tmp_path):
    for name in ("ten", "hundred"):
        (tmp_path / name).mkdir()
    (tmp_path / "ten" / "test_batch.bin").write_bytes(bytes([3]) + bytes(3072))
    (tmp_path / "hundred" / "test.bin").write_bytes(bytes([3, 77]) + bytes(3072))
    assert load(tmp_path / "ten", "test").labels.tolist() == [3]
    assert load(tmp_path / "hundred", "test").labels.tolist() == [77]


def test_image_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (3, 2)).save(tmp_path / name / "a.png")
    assert load(tmp_path, "train").images.shape == (2, 3, 2, 3)


def test_home_folder(tmp_path, monkeypatch, mnist_folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    mnist_folder(tmp_path / "data")
    assert len(load("~/data", "test")) == 10


def test_a_path_that_is_called_like_a_name(tmp_path, monkeypatch, mnist_folder):
    mnist_folder(tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)
    assert len(load("./mnist", "test")) == 10
    assert len(load("mnist", "test")) == 10000


def test_nothing_there(tmp_path):
    for source in ("minst", tmp_path / "nothing"):
        message = re.escape(repr(str(source))) + r" is neither .* fashion-mnist, cifar10 .*\.npz .* IDX .*\.bin "
        with pytest.raises(FileNotFoundError, match=message):
            load(source, "train")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"\x1f\x8b\x08\0", b"label,pixel0,pixel1\n"])
def test_files_of_no_format(tmp_path, content):
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path)) + r": not an \.npz file: it begins with .* IDX files"):
        load(path, "train")


def test_folder_of_no_format(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + ": neither IDX .* CIFAR-10's"):
        load(tmp_path, "train")


def test_half_a_folder_says_what_is_missing(tmp_path, mnist_folder):
    (mnist_folder(tmp_path) / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte .* is missing"):
        load(tmp_path, "train")


@pytest.mark.parametrize("source", ["mnist", "cifar10", "/nowhere"])
def test_split_is_checked_first(source):
    with pytest.raises(ValueError, match='split is "train" or "test", not \'validation\''):
        load(source, "validation")


def test_what_the_package_exports():
    for name in cnn.data.__all__:
        assert hasattr(cnn.data, name)
    assert cnn.data.load is load
    assert cnn.data.NAMES == ("mnist", "fashion-mnist", "cifar10")
