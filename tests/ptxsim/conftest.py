"""Compiled kernels in the emulator ptxsim, on real sizes: results, findings of its checks, counted figures.

Nothing here is a timing: an estimate is the least that a GPU's units allow for what was counted.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    # The emulator asks for the CPU's features and leaves the file to the garbage collector.
    config.addinivalue_line("filterwarnings", "ignore:unclosed file .*cpuinfo:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


def _missing() -> str | None:
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return "emulates compiled kernels, and NUMBA_ENABLE_CUDASIM=1 puts the simulator in the compiler's place"
    if find_spec("numba_cuda") is None:
        return "needs numba-cuda: pip install 'numba-cnn[cu13]'"
    return None if find_spec("ptxsim") else "needs the emulator ptxsim on PYTHONPATH"
