"""Images and labels in NumPy's .npz: a zip archive with one .npy file for each array. Nothing is unpickled.

    images, labels                      undivided: every tenth image is for testing (see cnn.data.split)
    x_train, y_train, x_test, y_test    two splits, as Keras stores them

and, if wanted, `classes`: an array of strings, the names of the classes.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html and PKWARE's APPNOTE for zip.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cnn.data.dataset import Dataset, Images, build_dataset, numbered_classes
from cnn.data.idx import CHUNK, DEFLATE_MAX_RATIO
from cnn.data.split import HOLDOUT_PERIOD, Split, check_split, holdout

UNDIVIDED = ("images", "labels")
DIVIDED = ("x_train", "y_train", "x_test", "y_test")
CHANNEL_COUNTS = (1, 3, 4)

# Magic, version and length field, and NumPy's own limit on the header text. Longer ones only serve structured
# types.
HEADER_LIMIT = 12 + 10000

# What zipfile is known to let through when the archive is damaged; NotImplementedError and RuntimeError are
# its words for unknown compression and encryption, OSError for offsets outside of the file.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OverflowError,
    LookupError,
    OSError,
    ValueError,
    MemoryError,
)


def load_npz(path: str | Path, split: Split) -> Dataset:
    """One split of an .npz file: images (N, C, H, W), uint8 as they are, float32 or float64 as float32.

    Images are (N, H, W), which get one channel, or have four dimensions. These are (N, H, W, C) if the last
    is 1, 3 or 4 and the second is not, else (N, C, H, W). Labels are integers of shape (N,) or (N, 1).
    Without `classes` they are named "0", "1", ... up to the largest label, of the training labels where there
    are two splits.

    Header and zip directory are checked against each other and against the length of the file before anything
    is allocated.

    Raises ValueError, with path and numbers, for a file that is no (or a damaged or encrypted) zip archive,
    missing arrays, object and other unsuitable types, shapes that do not fit, values that are not finite and
    labels outside of the classes; OSError where the file cannot be opened.
    """
    check_split(split)
    path = Path(path)
    with open(path, "rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{path}: not a readable .npz file: {error}") from error
        with archive:
            return _load_archive(path, archive, split)


def _load_archive(path: Path, archive: zipfile.ZipFile, split: Split) -> Dataset:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    divided = not set(members).isdisjoint(DIVIDED)
    missing = [key for key in (DIVIDED if divided else UNDIVIDED) if key not in members]
    if missing:
        raise ValueError(
            f"{path}: {', '.join(missing)} missing; wanted are {' and '.join(UNDIVIDED)}, "
            f"or {', '.join(DIVIDED)}; there are {sorted(members)!r:.200}"
        )
    images_key, labels_key = (f"x_{split}", f"y_{split}") if divided else UNDIVIDED
    labels = _read_labels(path, archive, members[labels_key])
    if "classes" in members:
        classes = _read_classes(path, archive, members["classes"])
    else:
        naming = labels
        if divided and split == "test":
            naming = _read_labels(path, archive, members["y_train"])
        classes = numbered_classes(path, naming)
    images = _as_images(path, images_key, _read_array(path, archive, members[images_key]))
    dataset = build_dataset(path, images, labels, classes)
    if divided:
        return dataset
    if len(dataset) < HOLDOUT_PERIOD:
        raise ValueError(f"{path}: {len(dataset)} images, fewer than {HOLDOUT_PERIOD}, so none is left for testing")
    return dataset.subset(holdout(len(dataset), split))


def _read_labels(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.int64]:
    labels = _read_array(path, archive, info)
    if labels.dtype.kind not in "iu" or not (labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)):
        raise ValueError(
            f"{path}: {info.filename}: labels are integers of shape (N,) or (N, 1), "
            f"not {labels.dtype} of shape {labels.shape}"
        )
    return labels.reshape(-1).astype(np.int64)


def _read_classes(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[str, ...]:
    classes = _read_array(path, archive, info)
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise ValueError(
            f"{path}: {info.filename}: classes are strings of shape (K,), not {classes.dtype} of shape {classes.shape}"
        )
    try:
        return tuple(str(name) for name in classes)
    except ValueError as error:
        raise ValueError(f"{path}: {info.filename}: {error}") from error


def _as_images(path: Path, key: str, array: NDArray[Any]) -> Images:
    if array.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"{path}: {key}: images are uint8, float32 or float64, not {array.dtype}")
    if array.ndim == 3:
        array = array[:, np.newaxis]
    elif array.ndim != 4:
        raise ValueError(f"{path}: {key}: images have 3 or 4 dimensions, not shape {array.shape}")
    elif array.shape[3] in CHANNEL_COUNTS and array.shape[1] not in CHANNEL_COUNTS:
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    # A float64 beyond float32 becomes infinite here, and is then refused like any other.
    with np.errstate(over="ignore"):
        images = np.ascontiguousarray(array, dtype=np.float32)
    for number, image in enumerate(images):
        if not np.isfinite(image).all():
            raise ValueError(f"{path}: {key}: image {number} has values that are not finite in float32")
    return images


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """The array of one member, C-contiguous and in native byte order."""
    try:
        _check_sizes(archive, info)
        with archive.open(info) as stream:
            return _read_member(stream, info.file_size)
    except _ZIP_ERRORS as error:
        raise ValueError(f"{path}: {info.filename}: {error or type(error).__name__}") from error


def _check_sizes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Bounds what the directory claims by the length of the archive, a number that nobody can invent."""
    assert archive.fp is not None
    length = archive.fp.seek(0, io.SEEK_END)
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE_MAX_RATIO}.get(info.compress_type)
    if ratio is None:
        raise ValueError(f"zip compression method {info.compress_type}; NumPy writes 0 (stored) and 8 (deflated)")
    if info.compress_size > length or info.file_size > info.compress_size * ratio:
        raise ValueError(
            f"{info.file_size} bytes cannot be in {info.compress_size} compressed ones of a file of {length}"
        )


def _read_member(stream: IO[bytes], size: int) -> NDArray[Any]:
    head = stream.read(HEADER_LIMIT)
    shape, fortran_order, dtype, header = _parse_header(head)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which would have to be unpickled; save it with a plain dtype")
    if dtype.kind not in "uifU" or dtype.itemsize == 0:
        raise ValueError(f"an array of {dtype}; only integers, floating point numbers and strings are read")
    if not all(dimension >= 1 for dimension in shape):
        raise ValueError(f"shape {shape} has a dimension below 1")
    promised = math.prod(shape) * dtype.itemsize
    if header + promised != size:
        raise ValueError(
            f"the header promises {dtype} of shape {shape}, {header} + {promised} bytes, but there are {size}"
        )
    raw = np.empty(promised, dtype=np.uint8)
    filled = min(len(head) - header, promised)
    raw[:filled] = np.frombuffer(head, dtype=np.uint8, count=filled, offset=header)
    while filled < promised:
        piece = stream.read(min(CHUNK, promised - filled))
        if not piece:
            raise ValueError(f"the data ends after {filled} of {promised} bytes")
        raw[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    if stream.read(1):
        raise ValueError(f"the data goes on after the {promised} bytes that the header promises")
    values = raw.view(dtype)
    array: NDArray[Any] = values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))


def _parse_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype and the length of the header in bytes, from the start of an .npy file."""
    stream = io.BytesIO(head)
    try:
        with warnings.catch_warnings():
            # Of numbers that run into words, old dtype names, Python 2: the result is checked, whoever wrote
            # it.
            warnings.simplefilter("ignore")
            version = npy.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f".npy version {version}; 1.0 and 2.0 hold all plain arrays")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran_order, dtype = read(stream)
    # The header is a Python literal, and NumPy passes on what its tokenizer, parser and dtype raise: there is
    # no list.
    except Exception as error:
        raise ValueError(f"not an .npy array: {error}") from error
    # True counts as an int in NumPy's check of the shape.
    return tuple(int(dimension) for dimension in shape), fortran_order, dtype, stream.tell()
