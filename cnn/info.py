"""What this installation is and what it computes on: versions, processor, GPU, and what could be installed besides.

Everything heavy is imported when it is asked for: the command line imports this module for `--device`, too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cnn

PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "pillow", "pooch", "rich")

# Import name, what provides it, and what is missing without it.
OPTIONAL = (
    ("cupy", 'pip install "numba-cnn[cu13]" (CUDA 13) or "numba-cnn[cu12]" (CUDA 12)', "training on an NVIDIA GPU"),
    ("numba_cuda", 'pip install "numba-cnn[cu13]" (CUDA 13) or "numba-cnn[cu12]" (CUDA 12)', "compiling GPU kernels"),
    ("matplotlib", 'pip install "numba-cnn[plots]"', "report.png of a training run"),
    ("torch", 'pip install "numba-cnn[torch]"', "comparing with PyTorch in tests and benchmarks"),
    ("onnx", 'pip install "numba-cnn[onnx]"', "comparing with ONNX in tests"),
)

# The vector instructions that a convolution gains from, as LLVM calls them: x86, then ARM.
VECTOR_FEATURES = ("sse4.2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2")


def describe() -> list[tuple[str, str]]:
    """Headings and texts for `cnn info`, one pair a line."""
    lines = [
        ("numba-cnn", f"{cnn.__version__}  ({Path(cnn.__file__).parent})"),
        ("Python", f"{platform.python_version()}  ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
    ]
    lines += [(name, _version(name) or "not installed, but needed") for name in PACKAGES]
    lines += [("processor", _processor()), ("vector features", _vector_features()), ("threads", _threads())]
    usable, gpu = gpu_status()
    lines += [("compiled code", str(compiled_code_folder())), ("GPU", gpu)]
    if usable:
        from cnn.kernels.cuda.compiler import cache_folder

        lines += [("GPU kernels", str(cache_folder()))]
    missing = [f"{name}: for {use}; {how}" for name, how, use in OPTIONAL if find_spec(name) is None]
    lines += [("not installed" if number == 0 else "", text) for number, text in enumerate(missing)]
    return lines


def gpu_status() -> tuple[bool, str]:
    """Whether runs can use a GPU, and its name and versions, or why not and what to install."""
    try:
        import cupy
    except ImportError as error:
        version, text = _driver()
        why = f"CuPy is not installed ({text})" if find_spec("cupy") is None else f"CuPy does not load: {error}"
        how = f': pip install "numba-cnn[{_extra(version)}]"' if version else ""
        return False, f"not used: {why}{how}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return False, f"not used: CuPy {cupy.__version__} finds no working driver: {error}"
    if not count:
        return False, f"not used: CuPy {cupy.__version__} finds no device"
    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    compiles, compiler = _gpu_compiler(driver)
    if not compiles:
        return False, f"not used: {compiler}"
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    memory = properties["totalGlobalMem"] / 2**30
    capability = f"{properties['major']}.{properties['minor']}"
    return True, (
        f"{properties['name'].decode()}, compute capability {capability}, {memory:.0f} GiB; driver for CUDA "
        f"{_cuda(driver)}, CuPy {cupy.__version__} for CUDA {_cuda(runtime)}, {compiler}"
    )


def compiled_code_folder() -> Path:
    """Where Numba keeps the CPU kernels it has compiled: NUMBA_CACHE_DIR, beside the source, or the user's cache."""
    from numba.core.caching import FunctionCache

    from cnn.kernels.cpu import activation

    return Path(FunctionCache(activation.relu_forward).cache_path)


def _gpu_compiler(driver: int) -> tuple[bool, str]:
    """Whether GPU kernels can be compiled for a driver of that version, and with what, or what is missing."""
    install = f'pip install "numba-cnn[{_extra(driver)}]"'
    numba_cuda = _version("numba-cuda")
    if numba_cuda is None:
        return False, f"numba-cuda, which compiles the GPU kernels, is not installed: {install}"
    try:
        from cuda.bindings import nvjitlink

        major, minor = nvjitlink.version()
    except (ImportError, RuntimeError) as error:  # no bindings, or no library that they bind
        return False, f"nvJitLink, which links the GPU kernels, does not load ({error}): {install}"
    if major > driver // 1000:
        return False, f"nvJitLink {major}.{minor} makes code that the driver, for CUDA {_cuda(driver)}, is too old for"
    return True, f"numba-cuda {numba_cuda}, nvJitLink {major}.{minor}"


def _extra(driver: int) -> str:
    return "cu13" if driver >= 13000 else "cu12"


def _cuda(version: int) -> str:
    """ "13.0" for 13000, as CUDA numbers its versions."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    from llvmlite.binding import get_host_cpu_name

    return f"{_model_name() or platform.processor() or platform.machine()} (LLVM: {get_host_cpu_name()})"


def _model_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")


def _vector_features() -> str:
    from llvmlite.binding import get_host_cpu_features

    features = get_host_cpu_features()
    return " ".join(name for name in VECTOR_FEATURES if features.get(name)) or "none that are known"


def _threads() -> str:
    from cnn.kernels.threads import get_num_threads

    return f"{get_num_threads()} of {os.cpu_count()} logical processors (CNN_NUM_THREADS sets another number)"


def _driver() -> tuple[int, str]:
    """The newest CUDA that the NVIDIA driver serves, as 1000 * major + 10 * minor, or 0; and that in words."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, "there is no NVIDIA driver on this machine"
    version = ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(version)) or not version.value:
        return 0, "the NVIDIA driver does not answer"
    return version.value, f"the NVIDIA driver serves CUDA {_cuda(version.value)}"
