"""Accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def count_correct(scores: Array, labels: Array, out: Array) -> None:
    out[...] = np.count_nonzero((scores.argmax(axis=1) == labels) & ~np.isnan(scores).any(axis=1))
