"""Who computes convolutions: one file each. To add one, derive from `Provider` and list it here."""

from __future__ import annotations

from benchmarks.providers.im2col import Im2col
from benchmarks.providers.onnx_runtime import OnnxRuntime
from benchmarks.providers.ours_cpu import OursCPU, OursCPUFresh
from benchmarks.providers.ours_cuda import OursCUDA
from benchmarks.providers.provider import Provider
from benchmarks.providers.pytorch import PyTorch
from benchmarks.providers.reference import Reference
from benchmarks.providers.scipy_signal import SciPy

PROVIDERS: tuple[Provider, ...] = (
    OursCPU(),
    PyTorch("cpu"),
    PyTorch("cpu", channels_last=True),
    PyTorch("cpu", compiled=True),
    OnnxRuntime(),
    OursCPUFresh(),
    Im2col("numpy", "im2col and numpy.matmul", "cpu", "numpy"),
    SciPy(),
    Reference(),
    OursCUDA(),
    OursCUDA(deterministic=True),
    OursCUDA(precision="tf32"),
    OursCUDA(precision="bf16"),
    PyTorch("cuda"),
    PyTorch("cuda", channels_last=True),
    PyTorch("cuda", tf32=True),
    PyTorch("cuda", channels_last=True, tf32=True),
    PyTorch("cuda", compiled=True),
    Im2col("cupy", "im2col and cuBLAS through CuPy", "cuda", "cupy"),
)
