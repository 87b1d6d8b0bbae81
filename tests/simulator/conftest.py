"""Every CUDA kernel in Numba's simulator, in a process of its own: the variable must be set before Numba is imported.

    NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/simulator

A simulated thread is a Python thread: sizes here are a few blocks at most.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from parity import SIMULATED

from cnn.kernels import buffers

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def _missing() -> str | None:
    if not SIMULATED:
        return "runs Numba's CUDA simulator: set NUMBA_ENABLE_CUDASIM=1 before Python starts"
    # The simulator that comes with Numba takes `cuda` from under threads that are still in a device function.
    return None if find_spec("numba_cuda") else "needs numba-cuda's simulator: pip install numba-cuda"


@pytest.fixture(autouse=True)
def _stale_memory_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "np", SimpleNamespace(**{**vars(np), "empty": _poisoned}))


def _poisoned(shape: Any, dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)
