"""Numbers as a table shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def time(seconds: float) -> str:
    """ "12.3 us", "4.56 ms", "1.23 s": three digits."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{digits(seconds * factor)} {unit}"
    return f"{digits(seconds)} s"


def digits(value: float) -> str:
    """Three digits, or all of those before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    rounded = value if abs(value) >= 100 else float(f"{value:.3g}")
    return f"{rounded:,.{max(2 - math.floor(math.log10(abs(rounded))), 0)}f}"


def amount(size: float) -> str:
    """Bytes in MiB."""
    return f"{size / 2**20:.1f} MiB"


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
