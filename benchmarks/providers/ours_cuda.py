"""Our CUDA backend: kernel gradients with atomics, and in a fixed order; in float32, and on tensor cores."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks import gpu
from benchmarks.providers.passes import pass_of
from benchmarks.providers.provider import Array, Provider
from benchmarks.shapes import KERNEL_GRADIENT, Case
from benchmarks.verify import Data
from cnn.kernels.buffers import Arena


class OursCUDA(Provider):
    device = "cuda"

    def __init__(self, deterministic: bool = False, precision: str = "float32") -> None:
        self.deterministic, self.precision = deterministic, precision
        self.ours = not deterministic and precision == "float32"
        kinds = {"deterministic": deterministic, precision: precision != "float32"}
        self.name = "-".join(["ours-cuda", *(kind for kind, wanted in kinds.items() if wanted)])
        order = "kernel gradients in a fixed order" if deterministic else "kernel gradients with atomics"
        self.about = f"cnn.kernels on the GPU, results in kept memory as in a TrainStep, {order}"

    def missing(self) -> str | None:
        return gpu.missing()

    def refuses(self, case: Case, purpose: str) -> str | None:
        if self.deterministic and purpose != KERNEL_GRADIENT:
            return "differs from ours-cuda in the kernel gradient only"
        return None

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        asarray = import_module("cupy").asarray
        bias = None if data.bias is None else asarray(data.bias)
        there = Data(asarray(data.x), asarray(data.weight), bias, asarray(data.grad_output))
        arena, compute = (
            Arena(),
            pass_of(case, purpose, there, precision=self.precision, deterministic=self.deterministic),
        )

        def call() -> Any:
            with arena.reused():
                return compute()

        return call

    def to_numpy(self, result: Any) -> Array:
        return np.asarray(result.get())
