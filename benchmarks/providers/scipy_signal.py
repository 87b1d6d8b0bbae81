"""SciPy's `signal.correlate` of whole images with whole filters, channels included: one call for each pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.counts import flops
from benchmarks.providers.provider import Array, Provider
from benchmarks.shapes import FORWARD, KERNEL_GRADIENT, Case
from benchmarks.verify import Data

# It takes a second for a few thousand pairs: timed to be seen, not to be waited for.
MOST_FLOPS = 3_000_000_000


class SciPy(Provider):
    name, about, needs = "scipy", "scipy.signal.correlate, method=direct", ("scipy",)

    def refuses(self, case: Case, purpose: str) -> str | None:
        if case.stride != 1 or case.dilation != 1 or case.groups != 1:
            return "knows no stride, dilation or groups"
        return f"would take long: more than {MOST_FLOPS:.0e} operations" if flops(case) > MOST_FLOPS else None

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        if purpose == FORWARD:
            x, bias = _padded(data.x, case.padding, case.padding), data.bias
            return lambda: _pairs(x, data.weight) + (0 if bias is None else bias.reshape(-1, 1, 1))
        if purpose == KERNEL_GRADIENT:
            x, grads = _padded(data.x, case.padding, case.padding), data.grad_output
            return lambda: _pairs(grads.transpose(1, 0, 2, 3), x.transpose(1, 0, 2, 3), swapped=True)
        around = [size - 1 - case.padding for size in case.weight[2:]]
        grad_output = _padded(data.grad_output, *around)
        rotated = np.flip(data.weight, (2, 3)).transpose(1, 0, 2, 3)
        return lambda: _pairs(grad_output, rotated)


def _pairs(first: Array, second: Array, swapped: bool = False) -> Array:
    """result[i, j]: where all of second[j] lies on first[i] or, swapped, all of first[i] on second[j]."""
    from scipy.signal import correlate

    def pair(a: Array, b: Array) -> Array:
        large, small = (b, a) if swapped else (a, b)
        return np.asarray(correlate(large, small, "valid", "direct")[0])

    return np.stack([[pair(a, b) for b in second] for a in first])


def _padded(x: Array, down: int, right: int) -> Array:
    """With zeros around each plane, or less of it where the number is negative."""
    x = np.pad(x, ((0, 0), (0, 0), (max(down, 0),) * 2, (max(right, 0),) * 2))
    rows, columns = max(-down, 0), max(-right, 0)
    return x[:, :, rows : x.shape[2] - rows, columns : x.shape[3] - columns]
