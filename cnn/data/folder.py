"""A folder of image files by class, read with Pillow.

    ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png, or ROOT/CLASS/*.png

In the second layout every tenth image of each class, in the order of its sorted file names, is for testing
(see cnn.data.split).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnn.data.dataset import Dataset, build_dataset
from cnn.data.split import HOLDOUT_PERIOD, Split, check_split, holdout

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm"})
GREY_MODES = ("1", "L")

# Pillow clips these to 255 when it makes RGB of them: a 16-bit image would come out white.
DEEP_MODES = ("I", "F")


def is_image_folder(folder: Path) -> bool:
    """True if there are subfolders that can be classes or splits."""
    return bool(_subfolders(folder))


def load_image_folder(folder: str | Path, split: Split) -> Dataset:
    """One split of a folder of images by class: images (N, 1 or 3, H, W) uint8.

    Classes are the names of the subfolders in sorted order; those of `train` where there are splits, and
    `test` may lack some. Files in the order of class, then name. Hidden files and those without an image's
    suffix are skipped.

    The first training image sets the size and the number of channels for all: grey (L or 1) gives one, every
    other mode is converted to RGB and gives three. Transparency is dropped.

    Raises ValueError, with path and numbers, for an image of another size or number of channels, one that
    cannot be read, is deeper than 8 bits or so large that Pillow warns of a decompression bomb, for a class
    without images, a test class that is not in training, and no images at all.
    """
    check_split(split)
    root = Path(folder)
    files, first = _list_files(root, split)
    classes = tuple(files)
    shape = _decode(first, None).shape
    count = sum(len(paths) for paths in files.values())
    try:
        images = np.empty((count, *shape), dtype=np.uint8)
    except MemoryError as error:
        raise ValueError(f"{root}: no memory for {count} images of shape {shape} (that of {first})") from error
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(paths) for paths in files.values()])
    for position, path in enumerate(path for paths in files.values() for path in paths):
        images[position] = _decode(path, shape)
    return build_dataset(root, images, labels, classes)


def _list_files(root: Path, split: Split) -> tuple[dict[str, list[Path]], Path]:
    """The files of each class in `split`, and the first image of all, which sets the shape."""
    train, test = root / "train", root / "test"
    if not (_subfolders(train) or _subfolders(test)):
        everything = _files_by_class(root)
        files = {
            name: [paths[position] for position in holdout(len(paths), split)] for name, paths in everything.items()
        }
        if not any(files.values()):
            raise ValueError(f"{root}: no class has {HOLDOUT_PERIOD} images, so none is left for testing")
        return files, next(iter(everything.values()))[0]
    files = _files_by_class(train)
    first = next(iter(files.values()))[0]
    if split == "train":
        return files, first
    tested = _files_by_class(test)
    unknown = [name for name in tested if name not in files]
    if unknown:
        raise ValueError(f"{test}: classes {unknown} are not among the {len(files)} classes of {train}")
    return {name: tested.get(name, []) for name in files}, first


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    classes = {child.name: _images_in(child) for child in _subfolders(folder)}
    if not classes:
        raise ValueError(f"{folder}: no folders of images, one for each class")
    for name, paths in classes.items():
        if not paths:
            raise ValueError(f"{folder / name}: no images; known are {', '.join(sorted(SUFFIXES))}")
    return classes


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return _by_name([child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")])


def _images_in(folder: Path) -> list[Path]:
    return _by_name(
        [
            child
            for child in folder.iterdir()
            if child.suffix.lower() in SUFFIXES and child.is_file() and not child.name.startswith(".")
        ]
    )


def _by_name(paths: list[Path]) -> list[Path]:
    # Paths themselves sort without regard to case on Windows: the split would depend on the system.
    return sorted(paths, key=lambda path: path.name)


def _decode(path: Path, expected: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """(C, H, W) uint8 of one file; its header is compared with `expected` before its pixels are read."""
    from PIL import Image  # late: importing Pillow is for those who have image files

    with open(path, "rb") as file:
        try:
            with warnings.catch_warnings():
                # Damaged metadata beside good pixels is no matter here; an image too large to be one is.
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file) as image:
                    shape = (1 if image.mode in GREY_MODES else 3, image.height, image.width)
                    problem = _problem(image.mode, shape, expected)
                    if problem is None:
                        return _pixels(image)
        # Each of Pillow's decoders has its own exceptions for a damaged file.
        except Exception as error:
            raise ValueError(f"{path}: not a readable image: {error or type(error).__name__}") from error
    raise ValueError(f"{path}: {problem}")


def _problem(mode: str, shape: tuple[int, ...], expected: tuple[int, ...] | None) -> str | None:
    if mode.startswith(DEEP_MODES):
        return f"mode {mode} has more than 8 bits a pixel; convert it to 8 bits"
    if expected is not None and shape != expected:
        return (
            f"{shape[2]} x {shape[1]} pixels (width x height), {shape[0]} channels (mode {mode}); "
            f"the first image has {expected[2]} x {expected[1]} and {expected[0]}"
        )
    return None


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in GREY_MODES:
        planes: NDArray[np.uint8] = np.asarray(image.convert("L"), dtype=np.uint8)[np.newaxis]
    else:
        planes = np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    return planes
