"""`cnn info`: what it says of the GPU in every case, of packages and of the cache."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cnn import info

LOAD = ctypes.CDLL


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were what compiles GPU kernels, and neither CuPy nor a driver."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    set_driver(monkeypatch, None)
    set_compiler(monkeypatch, (13, 5))


def set_compiler(monkeypatch: pytest.MonkeyPatch, nvjitlink: tuple[int, int] | Exception | None) -> None:
    """numba-cuda with that version of nvJitLink, or with what comes of loading it; None for no numba-cuda."""

    def version() -> tuple[int, int]:
        if not isinstance(nvjitlink, tuple):
            assert nvjitlink is not None
            raise nvjitlink
        return nvjitlink

    versions = {} if nvjitlink is None else {"numba-cuda": "0.30.4"}
    monkeypatch.setattr(info, "_version", versions.get)
    bindings: Any = ModuleType("cuda.bindings")
    bindings.nvjitlink = SimpleNamespace(version=version)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)


def set_driver(monkeypatch: pytest.MonkeyPatch, version: int | None) -> None:
    """A libcuda that serves CUDA `version`; None for no such library, 0 for one that does not answer."""

    def load(name: str, *arguments: Any, **options: Any) -> Any:
        if name != "libcuda.so.1":  # somebody else's: a test may be the first to import Numba
            return LOAD(name, *arguments, **options)
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
            driverGetVersion=lambda: 13010,
            runtimeGetVersion=lambda: 13000,
            getDeviceProperties=lambda number: properties,
        )
    )
    monkeypatch.setitem(sys.modules, "cupy", module)


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cupy(monkeypatch, 1)
    assert info.gpu_status() == (
        True,
        "NVIDIA H100, compute capability 9.0, 80 GiB; driver for CUDA 13.1, CuPy 14.2 for CUDA 13.0, "
        "numba-cuda 0.30.4, nvJitLink 13.5",
    )


@pytest.mark.parametrize(
    ("nvjitlink", "words"),
    [
        (None, 'numba-cuda, which compiles the GPU kernels, is not installed: pip install "numba-cnn[cu13]"'),
        (ImportError("no module"), 'nvJitLink, which links the GPU kernels, does not load (no module): pip install "'),
        (RuntimeError("no library"), "nvJitLink, which links the GPU kernels, does not load (no library): "),
        ((14, 0), "nvJitLink 14.0 makes code that the driver, for CUDA 13.1, is too old for"),
    ],
)
def test_a_gpu_that_nothing_can_be_compiled_for(monkeypatch: pytest.MonkeyPatch, nvjitlink: Any, words: str) -> None:
    set_cupy(monkeypatch, 1)
    set_compiler(monkeypatch, nvjitlink)
    usable, text = info.gpu_status()
    assert not usable
    assert text.startswith(f"not used: {words}")


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
