"""`cnn info`: what it says of the GPU in every case, of packages and of the cache."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import cnn
from cnn import info


@pytest.fixture(autouse=True)
def gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CUDA kernels were there, and neither CuPy nor a driver."""
    monkeypatch.setattr(info, "_gpu_kernels", lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", None)
    set_driver(monkeypatch, None)


def set_driver(monkeypatch: pytest.MonkeyPatch, version: int | None) -> None:
    """A libcuda that serves CUDA `version`; None for no such library, 0 for one that does not answer."""

    def load(name: str) -> Any:
        assert name == "libcuda.so.1"
        if version is None:
            raise OSError("cannot open shared object file")

        def get_version(pointer: Any) -> int:
            pointer._obj.value = version
            return 0 if version else 3

        return SimpleNamespace(cuDriverGetVersion=get_version)

    monkeypatch.setattr(ctypes, "CDLL", load)


def set_cupy(monkeypatch: pytest.MonkeyPatch, devices: int | None) -> None:
    """A CuPy that finds so many devices; None for one whose driver fails."""

    class CUDARuntimeError(RuntimeError):
        pass

    def count() -> int:
        if devices is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver")
        return devices

    properties = {"name": b"NVIDIA H100", "totalGlobalMem": 80 * 2**30, "major": 9, "minor": 0}
    module: Any = ModuleType("cupy")
    module.__version__ = "14.2"
    module.cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=count,
            getDeviceProperties=lambda number: properties,
        )
    )
    monkeypatch.setitem(sys.modules, "cupy", module)


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cupy(monkeypatch, 1)
    assert info.gpu_status() == (True, "NVIDIA H100, compute capability 9.0, 80 GiB")


@pytest.mark.parametrize(("devices", "why"), [(0, "finds no device"), (None, "finds no working driver: cudaError")])
def test_cupy_without_a_gpu(monkeypatch: pytest.MonkeyPatch, devices: int | None, why: str) -> None:
    set_cupy(monkeypatch, devices)
    usable, text = info.gpu_status()
    assert not usable
    assert text.startswith(f"not used: CuPy 14.2 {why}")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (None, "not used: CuPy is not installed (there is no NVIDIA driver on this machine)"),
        (0, "not used: CuPy is not installed (the NVIDIA driver does not answer)"),
        (12080, 'CuPy is not installed (the NVIDIA driver serves CUDA 12.8): pip install "numba-cnn[cu12]"'),
        (13000, 'CuPy is not installed (the NVIDIA driver serves CUDA 13.0): pip install "numba-cnn[cu13]"'),
    ],
)
def test_no_cupy(monkeypatch: pytest.MonkeyPatch, driver: int | None, words: str) -> None:
    monkeypatch.setattr(info, "find_spec", lambda name: None)
    set_driver(monkeypatch, driver)
    usable, text = info.gpu_status()
    assert not usable
    assert text.endswith(words)


def test_no_gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_gpu_kernels", lambda: False)
    set_cupy(monkeypatch, 1)
    assert info.gpu_status() == (
        False,
        f"not used: numba-cnn {cnn.__version__} has no GPU kernels (there is no NVIDIA driver on this machine)",
    )


def test_missing_packages_come_with_their_use_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(info, "find_spec", lambda name: None if name in ("matplotlib", "onnx") else real("sys"))
    headings, texts = zip(*info.describe()[-2:], strict=True)
    assert headings == ("not installed", "")
    assert texts[0] == 'matplotlib: for report.png of a training run; pip install "numba-cnn[plots]"'
    assert texts[1].startswith("onnx: for ")


def test_compiled_code_lies_where_numba_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from numba.core import config

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert tmp_path in info.compiled_code_folder().parents
