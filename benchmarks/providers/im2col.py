"""What one writes oneself: the windows of the image copied into columns, and a matrix product by BLAS or cuBLAS."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks import gpu
from benchmarks.providers.provider import Array, Provider
from benchmarks.shapes import FORWARD, KERNEL_GRADIENT, Case
from benchmarks.verify import Data


class Im2col(Provider):
    def __init__(self, name: str, about: str, device: str, module: str) -> None:
        self.name, self.about, self.device, self._module = name, about, device, module

    def missing(self) -> str | None:
        return gpu.missing() if self.device == "cuda" else None

    def refuses(self, case: Case, purpose: str) -> str | None:
        return "no groups: one matrix product for all channels" if case.groups > 1 else None

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        xp = import_module(self._module)
        x, weight, grad_output = (xp.asarray(array) for array in (data.x, data.weight, data.grad_output))
        bias = 0 if data.bias is None else xp.asarray(data.bias).reshape(-1, 1)
        geometry, filters = case.geometry, case.weight[0]
        rows = weight.reshape(filters, -1)
        pixels = math.prod(geometry.output)

        if purpose == FORWARD:
            return lambda: (rows @ _columns(xp, case, x) + bias).reshape(geometry.y_shape)
        grad_rows = grad_output.reshape(case.images, filters, pixels)
        if purpose == KERNEL_GRADIENT:
            return lambda: (
                (grad_rows @ _columns(xp, case, x).transpose(0, 2, 1)).sum(axis=0).reshape(geometry.weight_shape)
            )
        return lambda: _image(xp, case, rows.T @ grad_rows)

    def to_numpy(self, result: Any) -> Array:
        return np.asarray(result if self.device == "cpu" else result.get())


def _columns(xp: Any, case: Case, x: Any) -> Any:
    """(N, C R S, P Q): under each tap the input positions that it meets."""
    padded = xp.pad(x, ((0, 0), (0, 0), (case.padding,) * 2, (case.padding,) * 2))
    columns = xp.empty((*x.shape[:2], *case.weight[2:], *case.geometry.output), np.float32)
    for r, s in np.ndindex(*case.weight[2:]):
        columns[:, :, r, s] = padded[(..., *_met(case, r, s))]
    return columns.reshape(case.images, -1, math.prod(case.geometry.output))


def _image(xp: Any, case: Case, columns: Any) -> Any:
    """The way back: every column added to where it came from."""
    p = case.padding
    padded = xp.zeros((*case.x[:2], case.x[2] + 2 * p, case.x[3] + 2 * p), np.float32)
    columns = columns.reshape(*case.x[:2], *case.weight[2:], *case.geometry.output)
    for r, s in np.ndindex(*case.weight[2:]):
        padded[(..., *_met(case, r, s))] += columns[:, :, r, s]
    return padded[:, :, p : p + case.x[2], p : p + case.x[3]]


def _met(case: Case, *tap: int) -> tuple[slice, ...]:
    starts = [position * case.dilation for position in tap]
    return tuple(
        slice(start, start + (size - 1) * case.stride + 1, case.stride)
        for start, size in zip(starts, case.geometry.output, strict=True)
    )
