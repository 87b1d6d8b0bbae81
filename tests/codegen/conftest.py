"""Code made for every target without a GPU: needs numba-cuda with CUDA's compiler libraries, and no driver."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def _missing() -> str | None:
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return "compiles kernels, and NUMBA_ENABLE_CUDASIM=1 puts the simulator in the compiler's place"
    if find_spec("numba_cuda") is None or find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return "needs numba-cuda and its compiler libraries: pip install 'numba-cnn[cu13]'"
    return None


@pytest.fixture(autouse=True)
def _ptx_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN_CUDA_KEEP_PTX", "1")
