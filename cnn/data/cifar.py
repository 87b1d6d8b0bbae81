"""CIFAR-10 and CIFAR-100, binary version: a file is a row of records, each the labels and one image.

    CIFAR-10    <label 0..9> <3072 bytes>                           data_batch_1.bin to _5.bin, test_batch.bin
    CIFAR-100   <coarse label 0..19> <fine label 0..99> <3072 bytes>                  train.bin, test.bin

The 3072 bytes are 3 x 32 x 32 pixels: the red, green and blue plane, each row by row. Source:
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnn.data.dataset import Dataset, build_dataset
from cnn.data.split import Split, check_split

IMAGE_SHAPE = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class _Format:
    files: dict[str, tuple[str, ...]]  # of each split
    label_ranges: tuple[int, ...]  # of each label byte; the last label is the one that is used
    names_file: str
    default_classes: tuple[str, ...]

    @property
    def record(self) -> int:
        return len(self.label_ranges) + IMAGE_BYTES


CIFAR10 = _Format(
    files={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    label_ranges=(10,),
    names_file="batches.meta.txt",
    default_classes=CIFAR10_CLASSES,
)
CIFAR100 = _Format(
    files={"train": ("train.bin",), "test": ("test.bin",)},
    label_ranges=(20, 100),
    names_file="fine_label_names.txt",
    default_classes=tuple(str(number) for number in range(100)),
)


def is_cifar_folder(folder: Path) -> bool:
    """True if any of the .bin files is there, so that the others can be missed by name."""
    return _format_of(folder) is not None


def load_cifar_folder(folder: str | Path, split: Split) -> Dataset:
    """One split of a folder with the files of CIFAR-10 or CIFAR-100: images (N, 3, 32, 32) uint8.

    CIFAR-100 has the 100 fine labels. The names of the classes come from `batches.meta.txt` or
    `fine_label_names.txt`; without it CIFAR-10 has its well-known names and CIFAR-100 the numbers "0" to
    "99".

    A file may have any number of records, but at least one and only whole ones.

    Raises ValueError, with path and numbers, for missing files, other lengths, labels out of range and name
    files that do not have one name for each class.
    """
    check_split(split)
    folder = Path(folder)
    layout = _format_of(folder)
    if layout is None:
        raise ValueError(f"{folder}: none of the files of CIFAR-10 or CIFAR-100 (binary version) is there")
    paths = [folder / name for name in layout.files[split]]
    counts = [_count_records(path, layout.record) for path in paths]
    images = np.empty((sum(counts), *IMAGE_SHAPE), dtype=np.uint8)
    labels = np.empty(sum(counts), dtype=np.int64)
    begin = 0
    for path, count in zip(paths, counts, strict=True):
        records = _read_records(path, count, layout)
        images[begin : begin + count] = records[:, len(layout.label_ranges) :].reshape(count, *IMAGE_SHAPE)
        labels[begin : begin + count] = records[:, len(layout.label_ranges) - 1]
        begin += count
    return build_dataset(folder, images, labels, _class_names(folder / layout.names_file, layout))


def _format_of(folder: Path) -> _Format | None:
    for layout in (CIFAR10, CIFAR100):
        if any((folder / name).is_file() for names in layout.files.values() for name in names):
            return layout
    return None


def _count_records(path: Path, record: int) -> int:
    if not path.is_file():
        raise ValueError(f"{path}: the file is missing")
    size = path.stat().st_size
    if size == 0 or size % record:
        raise ValueError(f"{path}: {size} bytes are not a whole number of records of {record} bytes, at least one")
    return size // record


def _read_records(path: Path, count: int, layout: _Format) -> NDArray[np.uint8]:
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size != count * layout.record:
        raise ValueError(f"{path}: {raw.size} bytes read, but {count * layout.record} were there a moment ago")
    records = raw.reshape(count, layout.record)
    for column, classes in enumerate(layout.label_ranges):
        wrong = np.flatnonzero(records[:, column] >= classes)
        if len(wrong):
            raise ValueError(
                f"{path}: label {records[wrong[0], column]} of record {wrong[0]} is outside 0..{classes - 1} "
                f"({len(wrong)} of {count} records)"
            )
    return records


def _class_names(path: Path, layout: _Format) -> tuple[str, ...]:
    if not path.is_file():
        return layout.default_classes
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != len(layout.default_classes):
        raise ValueError(f"{path}: {len(names)} class names, not {len(layout.default_classes)}")
    return names
