"""One door to every data set: a name, or a path whose content says what it is."""

from __future__ import annotations

from pathlib import Path

from cnn.data.bundled import load_bundled_mnist
from cnn.data.cifar import is_cifar_folder, load_cifar_folder
from cnn.data.dataset import Dataset
from cnn.data.download import download
from cnn.data.folder import is_image_folder, load_image_folder
from cnn.data.mnist_folder import is_mnist_folder, load_mnist_folder
from cnn.data.npz import load_npz
from cnn.data.split import Split, check_split

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
NAMES = ("mnist", "fashion-mnist", "cifar10")

POSSIBLE = (
    "A data set is one of the names mnist (comes with the package), fashion-mnist, cifar10 (both downloaded"
    " once); or the path of an .npz file (images and labels, or x_train, y_train, x_test, y_test), of a "
    "folder with MNIST's IDX files, of a folder with CIFAR-10's or CIFAR-100's .bin files, or of a folder "
    "with a folder of images for each class, in train/ and test/ or not."
)


def load(source: str | Path = "mnist", split: Split = "train") -> Dataset:
    """One split, "train" or "test", of a data set by name or path; paths are told apart by their content.

    A name goes before a file or folder of that name in the working directory, which is then "./mnist".

    Raises ValueError, with path and numbers, for what none of the formats fits or what is damaged;
    FileNotFoundError where there is nothing at the path; OSError where a download fails. Those that have no
    format say what there is.
    """
    check_split(split)
    if source == "mnist":
        return load_bundled_mnist(split)
    if source == "fashion-mnist":
        return load_mnist_folder(download("fashion-mnist"), split, FASHION_MNIST_CLASSES)
    if source == "cifar10":
        return load_cifar_folder(download("cifar10"), split)
    path = Path(source).expanduser()
    if path.is_file():
        return _load_file(path, split)
    if path.is_dir():
        return _load_folder(path, split)
    raise FileNotFoundError(f"{str(source)!r} is neither the name of a data set nor a path that exists. {POSSIBLE}")


def _load_file(path: Path, split: Split) -> Dataset:
    with open(path, "rb") as file:
        begin = file.read(4)
    # What a zip archive begins with: a member, or the end of the directory of an empty one.
    if begin in (b"PK\x03\x04", b"PK\x05\x06"):
        return load_npz(path, split)
    raise ValueError(f"{path}: not an .npz file: it begins with {begin.hex(' ') or 'nothing'}. {POSSIBLE}")


def _load_folder(path: Path, split: Split) -> Dataset:
    if is_mnist_folder(path):
        return load_mnist_folder(path, split)
    if is_cifar_folder(path):
        return load_cifar_folder(path, split)
    if is_image_folder(path):
        return load_image_folder(path, split)
    raise ValueError(f"{path}: neither IDX nor .bin files nor folders of images. {POSSIBLE}")
