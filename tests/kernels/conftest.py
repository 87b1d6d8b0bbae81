"""Stale memory shows, and one test body serves every backend."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnn import kernels
from cnn.kernels import buffers
from cnn.kernels.threads import get_num_threads, set_num_threads

BACKENDS = ("reference", "cpu")


def poisoned(shape: Any, dtype: Any) -> Any:
    """An array of NaN; of the largest number, which is no valid index anywhere, if it is of integers."""
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


@pytest.fixture(autouse=True)
def _stale_memory_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    # Below `buffers.empty`, not in its place, so that it reaches modules that imported the function by its name.
    monkeypatch.setattr(buffers, "np", SimpleNamespace(**{**vars(np), "empty": poisoned}))
    # Working memory that threads keep from call to call: fresh in every call, so that it is poisoned every time.
    for module in ("conv_images", "conv_channels", "conv_pixels", "conv_winograd"):
        name = f"cnn.kernels.cpu.{module}.scratch"
        monkeypatch.setattr(name, lambda _slot, size: buffers.empty(size, np.float32))


@pytest.fixture(params=BACKENDS, scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the backend that serves this test."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _in_that_backend(request: pytest.FixtureRequest) -> Iterator[None]:
    # Apart from `backend`, so that hypothesis finds no function-scoped fixture among a test's own.
    if "backend" not in request.fixturenames:
        yield
        return
    with kernels.backend(request.getfixturevalue("backend")):
        yield


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """What a test sets the number of threads to ends with it."""
    before = get_num_threads()
    yield
    set_num_threads(before)
