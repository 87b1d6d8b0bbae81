"""Our reference: NumPy, as short as the formula. It is what results are held against, in float64; here in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.counts import flops
from benchmarks.providers.passes import pass_of
from benchmarks.providers.provider import Provider
from benchmarks.shapes import Case
from benchmarks.verify import Data
from cnn import kernels

# It is timed to be seen, not to be waited for.
MOST_FLOPS = 10_000_000_000


class Reference(Provider):
    name, about = "reference", "cnn.kernels' reference: NumPy's einsum, a tap at a time"

    def refuses(self, case: Case, purpose: str) -> str | None:
        return f"would take long: more than {MOST_FLOPS:.0e} operations" if flops(case) > MOST_FLOPS else None

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        compute = pass_of(case, purpose, data)

        def call() -> Any:
            with kernels.backend("reference"):
                return compute()

        return call
