"""IDX, the format of MNIST: bytes 0, 0, type, D; then D sizes, uint32; then the elements; all big-endian.

Source: the description at the foot of http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

TYPES: dict[int, type[np.generic]] = {
    0x08: np.uint8,
    0x09: np.int8,
    0x0B: np.int16,
    0x0C: np.int32,
    0x0D: np.float32,
    0x0E: np.float64,
}
GZIP_MAGIC = b"\x1f\x8b"

# NumPy 1's limit; the format's own is 255.
MAX_DIMENSIONS = 32

# Deflate's best case is a match of 258 bytes in 2 bits, so no honest file promises more than this times its
# length.
DEFLATE_MAX_RATIO = 258 * 8 // 2

# Read in pieces: GzipFile.readinto first makes a bytes object as long as what it is asked for.
CHUNK = 1 << 20


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readinto(self, buffer: memoryview, /) -> int: ...


def read_idx(path: str | Path) -> NDArray[Any]:
    """The array in an IDX file, plain or gzipped (told by its first two bytes, not by its name).

    Returns a new C-contiguous array of the file's shape, uint8, int8, int16, int32, float32 or float64 in
    native byte order. The header is checked against the length of the file before anything is allocated, and
    decompression stops one byte after the promised end.

    Raises ValueError, with path and numbers, for a wrong magic number, an unknown type, no or zero
    dimensions, data that is shorter or longer than the header promises, and broken gzip; OSError where the
    file cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        gzipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        try:
            if not gzipped:
                return _read_stream(file, length, gzipped=False)
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                return _read_stream(stream, length, gzipped=True)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: broken gzip file of {length} bytes: {error}") from error
        except (ValueError, MemoryError) as error:
            raise ValueError(f"{path}: {error}") from error


def _read_stream(stream: _Stream, length: int, *, gzipped: bool) -> NDArray[Any]:
    dtype, shape, header = _read_header(stream)
    promised = math.prod(shape) * dtype.itemsize
    if gzipped and header + promised > length * DEFLATE_MAX_RATIO:
        raise ValueError(
            f"the header promises {dtype} of shape {shape}, {promised} bytes, more than {length} bytes of gzip can hold"
        )
    if not gzipped and header + promised != length:
        raise ValueError(
            f"the header promises {dtype} of shape {shape}, {header} + {promised} bytes, but the file has {length}"
        )
    raw = np.empty(promised, dtype=np.uint8)
    _fill(stream, raw)
    array = raw.view(dtype).reshape(shape)
    if sys.byteorder == "little":
        array.byteswap(inplace=True)
    return array


def _read_header(stream: _Stream) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Element type, shape and the length of the header in bytes."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, not with 00 00, type, dimensions"
        )
    kind, dimensions = magic[2], magic[3]
    if kind not in TYPES:
        known = ", ".join(f"0x{code:02x}" for code in TYPES)
        raise ValueError(f"unknown IDX type 0x{kind:02x}; the known ones are {known}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"{dimensions} dimensions; an IDX file has 1 to {MAX_DIMENSIONS}")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(f"the header ends after {4 + len(sizes)} of {4 + 4 * dimensions} bytes")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise ValueError(f"shape {shape} has a dimension of size 0")
    return np.dtype(TYPES[kind]), shape, 4 + 4 * dimensions


def _fill(stream: _Stream, raw: NDArray[np.uint8]) -> None:
    view = raw.data
    filled = 0
    while filled < len(raw):
        count = stream.readinto(view[filled : filled + CHUNK])
        if not count:
            raise ValueError(f"the data ends after {filled} of {len(raw)} bytes")
        filled += count
    # This read is also what makes GzipFile compare the checksum and look at what follows.
    if stream.read(1):
        raise ValueError(f"the data goes on after the {len(raw)} bytes that the header promises")
