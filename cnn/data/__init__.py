"""Data sets: loading them, and making mini-batches of them.

train = cnn.data.load("mnist", "train")
batches = cnn.data.Batches(train, 64, seed=0, normalize=cnn.data.Normalize.of(train))
for images, labels in batches.epoch(0): ...
"""

from cnn.data.batches import Batch, Batches, Transform
from cnn.data.bundled import load_bundled_mnist
from cnn.data.cifar import load_cifar_folder
from cnn.data.dataset import Dataset
from cnn.data.download import download
from cnn.data.folder import load_image_folder
from cnn.data.idx import read_idx
from cnn.data.load import NAMES, load
from cnn.data.mnist_folder import load_mnist_folder
from cnn.data.npz import load_npz
from cnn.data.split import Split
from cnn.data.transforms import Normalize, RandomCrop, RandomFlip, RandomShift, to_float

__all__ = [
    "NAMES",
    "Batch",
    "Batches",
    "Dataset",
    "Normalize",
    "RandomCrop",
    "RandomFlip",
    "RandomShift",
    "Split",
    "Transform",
    "download",
    "load",
    "load_bundled_mnist",
    "load_cifar_folder",
    "load_image_folder",
    "load_mnist_folder",
    "load_npz",
    "read_idx",
    "to_float",
]
