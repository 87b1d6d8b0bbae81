"""Rows that nobody measured, for tests of what is made of rows."""

from __future__ import annotations

from typing import Any

from benchmarks.rows import Row


def row(provider: str, median: float | None, **changed: Any) -> Row:
    """A forward pass of 8 images, 1e9 operations and 1e6 bytes, with a spread of 1 % both ways."""
    values: dict[str, Any] = {
        "command": "conv",
        "layer": "a.0",
        "shape": "8x1x4x4:2x1x3x3",
        "purpose": "forward",
        "provider": provider,
        "device": "a machine",
        "images": 8,
        "flops": 10**9,
        "bytes": 10**6,
        "machine": {"processor": "a machine"},
        "versions": {"numpy": "2"},
    }
    if median is not None:
        values |= {"median": median, "p20": 0.99 * median, "p80": 1.01 * median, "runs": 9, "first": 10 * median}
    return Row(**{**values, **changed})


def broken(provider: str, status: str = "wrong", **changed: Any) -> Row:
    """A row without statistics."""
    return row(provider, None, status=status, **changed)


def limits(flops: float, moved: float) -> list[Row]:
    """Of a machine with so many operations and bytes a second."""
    common = {"layer": "machine", "images": 0}
    return [
        row("NumPy", 1.0, purpose="sgemm", flops=int(flops), bytes=0, **common),
        row("NumPy", 1.0, purpose="copy", flops=0, bytes=int(moved), **common),
    ]
