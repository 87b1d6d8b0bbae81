"""`python -m benchmarks.sgemm SIZE SECONDS`: times of a float32 matrix product, as a list of JSON.

A process of its own, since OpenBLAS chooses its code when it is loaded, and on processors that are younger than itself
it passes over AVX-512.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from subprocess import run
from time import perf_counter

import numpy as np

# Its code for any processor with AVX-512.
WIDE = {"OPENBLAS_CORETYPE": "SkylakeX"}


def times(size: int, seconds: float, environment: Mapping[str, str]) -> list[float]:
    """Measured in another process, with these variables on top of this one's."""
    command = [sys.executable, "-m", "benchmarks.sgemm", str(size), str(seconds)]
    path = os.pathsep.join(filter(None, sys.path))
    variables = {**os.environ, "PYTHONPATH": path, **environment}
    found = json.loads(run(command, env=variables, check=True, capture_output=True, text=True).stdout)
    return [float(each) for each in found]


def main(size: int, seconds: float) -> None:
    a, b, c = (np.ones((size, size), np.float32) for _ in range(3))
    np.matmul(a, b, out=c)
    found: list[float] = []
    while sum(found) < seconds:
        start = perf_counter()
        np.matmul(a, b, out=c)
        found.append(perf_counter() - start)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
