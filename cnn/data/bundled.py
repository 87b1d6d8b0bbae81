"""The MNIST that comes with the package, in the folder `mnist` beside this file (attribution there)."""

from __future__ import annotations

from pathlib import Path

from cnn.data.dataset import Dataset
from cnn.data.mnist_folder import load_mnist_folder
from cnn.data.split import Split

MNIST_CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
MNIST_FOLDER = Path(__file__).with_name("mnist")


def load_bundled_mnist(split: Split) -> Dataset:
    """60,000 training or 10,000 test images (N, 1, 28, 28) uint8, classes "0" to "9". Needs no network."""
    return load_mnist_folder(MNIST_FOLDER, split, MNIST_CLASSES)
