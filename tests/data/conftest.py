"""What the tests of the loaders share: IDX bytes made by struct, damage to bytes, guards on memory."""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[..., bytes]:
    """idx_bytes(values, shape, kind=0x08, code="B"): an IDX file by the letter of the format."""

    def make(values: list[int] | list[float], shape: tuple[int, ...], kind: int = 0x08, code: str = "B") -> bytes:
        header = struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)
        return header + struct.pack(f">{len(values)}{code}", *values)

    return make


@pytest.fixture(scope="session")
def mnist_folder(idx_bytes: Callable[..., bytes]) -> Callable[..., Path]:
    """mnist_folder(folder, train=20, test=10, size=4): four IDX files, two of them gzipped; image i is i."""

    def make(folder: Path, train: int = 20, test: int = 10, size: int = 4) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for prefix, count in (("train", train), ("t10k", test)):
            pixels = [number for number in range(count) for _ in range(size * size)]
            images = idx_bytes(pixels, (count, size, size))
            labels = idx_bytes([number % 10 for number in range(count)], (count,))
            (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
            (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
        return folder

    return make


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples that hypothesis draws: a new one for each would be most of the time."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="session")
def damaged() -> Callable[[bytes], st.SearchStrategy[bytes]]:
    """damaged(valid): the bytes cut short, with a byte changed, with bytes put in or others appended."""

    def make(valid: bytes) -> st.SearchStrategy[bytes]:
        positions = st.integers(0, len(valid) - 1)
        some = st.binary(min_size=1, max_size=8)
        return st.one_of(
            positions.map(lambda end: valid[:end]),
            st.tuples(positions, st.integers(0, 255)).map(
                lambda at: valid[: at[0]] + bytes([at[1]]) + valid[at[0] + 1 :]
            ),
            st.tuples(positions, some).map(lambda at: valid[: at[0]] + at[1] + valid[at[0] :]),
            st.tuples(positions, some).map(lambda at: valid[: at[0]] + at[1] + valid[at[0] + len(at[1]) :]),
            some.map(lambda tail: valid + tail),
        )

    return make


@pytest.fixture(scope="session")
def small_arrays_only() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """`with small_arrays_only():` fails where numpy.empty is asked for more than 16 MiB."""

    @contextlib.contextmanager
    def guard() -> Iterator[None]:
        empty = np.empty

        def checked(shape: int | tuple[int, ...], dtype: object = float, **options: object) -> np.ndarray:
            size = math.prod(np.atleast_1d(np.array(shape, dtype=object))) * np.dtype(dtype).itemsize
            assert size <= 1 << 24, f"numpy.empty was asked for {size} bytes"
            return empty(shape, dtype, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np, "empty", checked)
            yield

    return guard


@pytest.fixture(scope="session")
def peak_memory() -> Callable[[Callable[[], object]], int]:
    """peak_memory(function): the bytes that it had allocated at most, NumPy's included."""

    def measure(function: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            function()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure
