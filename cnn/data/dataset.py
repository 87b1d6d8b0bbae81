"""Labelled images in memory: images (N, C, H, W) uint8 or float32, labels (N,) int64, names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]

# Where class names are made from labels, a damaged label must not make two thousand million of them.
MAX_NUMBERED_CLASSES = 65536


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels.

    images: (N, C, H, W), uint8 (0..255) or float32 (as it is, never rescaled). C, H and W are at least 1, N
    may be 0.
    labels: (N,) int64, each in 0..len(classes) - 1.
    classes: the names of the classes, at least one.

    Raises ValueError, with the numbers, where these rules are broken.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_images(self.images)
        if not isinstance(self.labels, np.ndarray) or self.labels.ndim != 1 or self.labels.dtype != np.int64:
            raise ValueError(f"labels are an int64 array of shape (N,), not {_describe(self.labels)}")
        if len(self.labels) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")
        if not isinstance(self.classes, tuple) or not all(isinstance(name, str) for name in self.classes):
            raise ValueError(f"classes are a tuple of names, not {self.classes!r:.80}")
        if not self.classes:
            raise ValueError("a data set has at least one class, not 0")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(wrong):
            raise ValueError(
                f"label {self.labels[wrong[0]]} of image {wrong[0]} is outside 0..{len(self.classes) - 1} "
                f"({len(wrong)} of {len(self.labels)} labels are)"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: slice | Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> Dataset:
        """The images that a slice (a view), a list of positions or a mask of N booleans (both a copy) picks.

        Raises IndexError for positions outside 0..N - 1 and masks of another length.
        """
        # An empty list would become a float array, which does not index.
        picked = indices if isinstance(indices, slice | np.ndarray) else np.asarray(indices, dtype=np.int64)
        return Dataset(self.images[picked], self.labels[picked], self.classes)


def build_dataset(where: str | Path, images: Images, labels: Labels, classes: tuple[str, ...]) -> Dataset:
    """A Dataset whose ValueError names the file or folder that the arrays came from."""
    try:
        return Dataset(images, labels, classes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def numbered_classes(where: str | Path, labels: NDArray[Any]) -> tuple[str, ...]:
    """The names "0", "1", ... up to the largest label, for formats that bring no names.

    Raises ValueError for labels that are no class numbers: negative, or beyond MAX_NUMBERED_CLASSES.
    """
    if len(labels) == 0:
        raise ValueError(f"{where}: no labels")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_NUMBERED_CLASSES:
        raise ValueError(f"{where}: labels go from {low} to {high}, outside 0..{MAX_NUMBERED_CLASSES - 1}")
    return tuple(str(number) for number in range(high + 1))


def _check_images(images: Images) -> None:
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise ValueError(f"images are a uint8 or float32 array of shape (N, C, H, W), not {_describe(images)}")
    if 0 in images.shape[1:]:
        raise ValueError(f"images of shape {images.shape} have no pixels")


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return type(value).__name__
