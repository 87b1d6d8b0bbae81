"""Accuracy; the rules stand in `cnn.kernels.accuracy`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit

Array = np.ndarray[Any, Any]


def count_correct(scores: Array, labels: Array, out: Array) -> None:
    out[...] = _count_correct(np.ascontiguousarray(scores), labels)


@jit()
def _count_correct(scores, labels):
    images, classes = scores.shape
    count = 0
    for n in range(images):
        best = 0
        number = True
        for j in range(classes):
            number = number and not np.isnan(scores[n, j])
            if scores[n, j] > scores[n, best]:
                best = j
        count += number and labels[n] == best
    return count
