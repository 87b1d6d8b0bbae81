"""A folder laid out like MNIST: images and labels of two splits in four IDX files.

    train-images-idx3-ubyte  (N, H, W) uint8        train-labels-idx1-ubyte  (N,)
    t10k-images-idx3-ubyte                          t10k-labels-idx1-ubyte

each with or without `.gz`; `train-images.idx3-ubyte`, as some mirrors spell it, will do too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.data.dataset import Dataset, build_dataset, numbered_classes
from cnn.data.idx import read_idx
from cnn.data.split import Split, check_split

PREFIX = {"train": "train", "test": "t10k"}
IMAGES, LABELS = ("images", "idx3"), ("labels", "idx1")


def is_mnist_folder(folder: Path) -> bool:
    """True if any of the four files is there, so that the others can be missed by name."""
    return any(_find(folder, prefix, what) is not None for prefix in PREFIX.values() for what in (IMAGES, LABELS))


def load_mnist_folder(folder: str | Path, split: Split, classes: tuple[str, ...] | None = None) -> Dataset:
    """One split of a folder of four IDX files: images (N, 1, H, W) uint8.

    Without `classes` these are "0", "1", ... up to the largest *training* label, so that both splits agree.

    Raises ValueError, with path and numbers, for a missing file, everything that `read_idx` refuses, another
    type or number of dimensions, images and labels that differ in number, and labels outside the classes.
    """
    check_split(split)
    folder = Path(folder)
    prefix = PREFIX[split]
    images_path, labels_path = _require(folder, prefix, IMAGES), _require(folder, prefix, LABELS)
    labels = _read_labels(labels_path)
    if classes is None:
        train_path = _require(folder, PREFIX["train"], LABELS)
        classes = numbered_classes(train_path, labels if split == "train" else _read_labels(train_path))
    images = read_idx(images_path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{images_path}: images are uint8 of shape (N, H, W), not {images.dtype} of shape {images.shape}"
        )
    return build_dataset(f"{images_path} and {labels_path.name}", images[:, np.newaxis], labels, classes)


def _read_labels(path: Path) -> NDArray[np.int64]:
    labels: NDArray[Any] = read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels are integers of shape (N,), not {labels.dtype} of shape {labels.shape}")
    return labels.astype(np.int64)


def _find(folder: Path, prefix: str, what: tuple[str, str]) -> Path | None:
    name, kind = what
    for joint in ("-", "."):
        for suffix in ("", ".gz"):
            path = folder / f"{prefix}-{name}{joint}{kind}-ubyte{suffix}"
            if path.is_file():
                return path
    return None


def _require(folder: Path, prefix: str, what: tuple[str, str]) -> Path:
    path = _find(folder, prefix, what)
    if path is None:
        name, kind = what
        raise ValueError(f"{folder}: the file {prefix}-{name}-{kind}-ubyte (or the same with .gz) is missing")
    return path
