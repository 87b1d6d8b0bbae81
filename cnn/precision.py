"""How precise the factors of convolutions are where a layer does not say: see `cnn.kernels.precision`."""

from __future__ import annotations

from cnn.kernels.precision import FLOAT32, check_precision

_default = FLOAT32


def set_precision(precision: str) -> None:
    """Let convolutions whose `precision` is None compute in "float32", "tf32" or "bf16" from now on, in all threads.

    The last two are for tensor cores of NVIDIA GPUs from compute capability 8.0 on: factors are rounded, weights and
    sums stay float32. What no tensor core serves is computed in float32. Raises `ShapeError`, a ValueError.
    """
    global _default
    _default = check_precision("set_precision", precision)


def get_precision() -> str:
    """What `set_precision` set, "float32" at first."""
    return _default
