"""Our CPU backend, in memory that is kept from call to call, as `cnn.TrainStep` calls it, and in fresh memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.providers.passes import pass_of
from benchmarks.providers.provider import Provider
from benchmarks.shapes import Case
from benchmarks.verify import Data
from cnn.kernels.buffers import Arena


class OursCPU(Provider):
    name, about, ours = "ours", "cnn.kernels on the CPU, results in kept memory as in a TrainStep", True

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        arena, compute = Arena(), pass_of(case, purpose, data)

        def call() -> Any:
            with arena.reused():
                return compute()

        return call


class OursCPUFresh(Provider):
    name, about = "ours-fresh", "cnn.kernels on the CPU, a new array for every result"

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        return pass_of(case, purpose, data)
