"""What a provider is: somebody who computes a pass of a convolution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from benchmarks.shapes import Case
from benchmarks.verify import Data

Array = np.ndarray[Any, Any]


class Provider(ABC):
    """name: on the command line and in the table. device: "cpu" or "cuda". precision: of the factors, "float32",
    "tf32" or "bf16".

    about: what is called, in a few words. ours: whether the table is about it. needs: packages, by import name, and
    extra, which installs them.
    """

    name: str
    about: str
    device: str = "cpu"
    precision: str = "float32"
    ours: bool = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "bench"

    def missing(self) -> str | None:
        """Why it cannot be had here, with what to install; None where it can."""
        absent = [name for name in self.needs if find_spec(name) is None]
        return f"{' and '.join(absent)} not installed: pip install 'numba-cnn[{self.extra}]'" if absent else None

    def refuses(self, case: Case, purpose: str) -> str | None:
        """Why it does not compute this pass; None where it does."""
        return None

    @abstractmethod
    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        """Bring the data where it is needed, and return a function of no arguments that computes the pass.

        purpose: one of `PASSES`. What is in the function is timed.
        """

    def to_numpy(self, result: Any) -> Array:
        """The result of a call, (N, K, P, Q), (K, C/groups, R, S) or (N, C, H, W)."""
        return np.asarray(result)
