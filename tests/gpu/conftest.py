"""Tests that need an NVIDIA GPU. They also run on a stand-in that executes the compiled kernels on the CPU.

All arrays are CuPy's. Numbers are compared with the reference in float64, exactly where they are small integers.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnn.kernels import buffers

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    # The stand-in asks for the CPU's features and leaves the file to the garbage collector.
    config.addinivalue_line("filterwarnings", "ignore:unclosed file .*cpuinfo:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    reason = _missing() if ours else None
    for item in ours if reason else []:
        item.add_marker(pytest.mark.skip(reason=reason))


def _missing() -> str | None:
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return "needs a GPU, and NUMBA_ENABLE_CUDASIM=1 puts the simulator in its place"
    try:
        with warnings.catch_warnings():  # CuPy warns where it finds no CUDA
            warnings.simplefilter("ignore")
            cupy = import_module("cupy")
            import_module("numba_cuda")
    except ImportError as error:
        return f"needs CuPy and numba-cuda: pip install 'numba-cnn[cu13]' ({error})"
    return None if cupy.cuda.is_available() else "needs an NVIDIA GPU with a working driver"


@pytest.fixture
def cupy() -> Any:
    return import_module("cupy")


@pytest.fixture(autouse=True)
def _stale_memory_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    # Below `buffers.empty`, so that it reaches modules that imported the function by its name.
    monkeypatch.setattr(buffers, "import_module", lambda name: SimpleNamespace(empty=_poisoned))


def _poisoned(shape: Any, dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    value = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
    return import_module("cupy").full(shape, value, dtype)
