"""Pooling drawn for property tests, and its definition, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]

LARGEST_OUTPUT = {1: 5, 2: 3, 3: 2}


@dataclass(frozen=True)
class PoolCase:
    x_shape: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    ceil_mode: bool

    @property
    def options(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}

    def integers(self, seed: int) -> Array:
        """x of integers in -3..3 as float32: few values, so that many windows hold a tie."""
        return np.random.default_rng(seed).integers(-3, 4, self.x_shape).astype(np.float32)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (*self.x_shape[:2], *(len(spans) for spans in self._spans()))

    def windows(self) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]], int]]:
        """Each window: its output position, its real input positions in row-major order, its size with padding.

        What ceil_mode adds beyond the padding is no part of a window.
        """
        spans = self._spans()
        ends = [size + after for size, (_, after) in zip(self.x_shape[2:], self.padding, strict=True)]
        for p in np.ndindex(*map(len, spans)):
            chosen = [span[i] for span, i in zip(spans, p, strict=True)]
            real = [
                range(max(start, 0), min(stop, size))
                for (start, stop), size in zip(chosen, self.x_shape[2:], strict=True)
            ]
            padded = [min(stop, end) - start for (start, stop), end in zip(chosen, ends, strict=True)]
            yield p, list(product(*real)), int(np.prod(padded))

    def _spans(self) -> list[list[tuple[int, int]]]:
        """For each dimension the windows as (start, stop) in the input; either may lie outside it.

        A window exists while it starts inside the input or its leading padding and, without ceil_mode, while it fits
        into the padded input; with ceil_mode, while the one before it stopped short of the padded input's end.
        """
        every = []
        for size, window, stride, (before, after) in zip(
            self.x_shape[2:], self.window, self.stride, self.padding, strict=True
        ):
            spans: list[tuple[int, int]] = []
            start, end = -before, size + after
            while start < size and ((not spans or spans[-1][1] < end) if self.ceil_mode else start + window <= end):
                spans.append((start, start + window))
                start += stride
            every.append(spans)
        return every


@st.composite
def pool_cases(draw: st.DrawFn, dimensions: int, ceil_mode: bool, *, like_torch: bool = False) -> PoolCase:
    """A pooling in `dimensions` dimensions: the number of windows that fit is drawn first, the input derived from it.

    Windows overlap, touch or leave gaps; elements may be left over, which is where ceil_mode adds a window.
    `like_torch`: with no padding and no input that PyTorch would refuse.
    """
    inputs, windows, strides, paddings = [], [], [], []
    for _ in range(dimensions):
        window, stride = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        fitting = draw(st.integers(1, LARGEST_OUTPUT[dimensions]))
        padded = (fitting - 1) * stride + window + draw(st.integers(0, stride - 1))
        if like_torch:
            before = after = draw(st.integers(0, min(window // 2, (padded - window) // 2)))
        else:
            before = draw(st.integers(0, min(window, padded) - 1))
            after = draw(st.integers(0, min(window, padded - before) - 1))
        inputs.append(padded - before - after)
        windows.append(window)
        strides.append(stride)
        paddings.append((before, after))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *inputs)
    return PoolCase(shape, tuple(windows), tuple(strides), tuple(paddings), ceil_mode)
