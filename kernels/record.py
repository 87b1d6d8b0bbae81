"""The end of a step, on the device: keep its loss, count the step and its images.

history[counts[0] % len(history)] = value;  counts[0] += 1;  counts[1] += images;  calls[1] += made
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape, check_written
from cnn.kernels.errors import DTypeError, ShapeError
from cnn.kernels.options import check_count


@dataclass(frozen=True, eq=False)
class Record:
    """What `record` is called with; an optimiser's update does it along, on a GPU in the same launch."""

    value: Any
    history: Any
    counts: Any
    images: int = 0
    calls: Any = None
    made: int = 0


def record(value: Any, history: Any, counts: Any, *, images: int = 0, calls: Any = None, made: int = 0) -> None:
    """Write value, one number, to history (n,), and update counts, int32 (2,): steps so far, and images.

    calls: the state of `dropout`, uint64 (2,), in which `made` more calls are counted, or None. history and counts are
    contiguous. Nothing is read back. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "record"
    ending = Record(value, history, counts, images, calls, made)
    check_record(operation, ending)
    backend_module(operation, "record", value).record(ending)


def check_record(operation: str, record: Record) -> None:
    """Raises what `record` raises, in the name of `operation`."""
    value, history, counts = record.value, record.history, record.counts
    check_arrays(operation, value=value, history=history)
    check_labels(operation, "counts", counts, value)
    if value.size != 1:
        raise ShapeError(f"{operation}: value must be one number, got shape {value.shape}")
    if history.ndim != 1 or not len(history) or not history.flags.c_contiguous:
        raise ShapeError(f"{operation}: history must be a contiguous array (n,) with n above 0, got {history.shape}")
    if counts.dtype != np.int32:
        raise DTypeError(f"{operation}: counts must be int32, got {counts.dtype}")
    check_shape(operation, "counts", counts, (2,))
    check_written(operation, "history", history, value)
    check_written(operation, "counts", counts)
    check_count(operation, "images", record.images, most=2**31 - 1)
    check_count(operation, "made", record.made, most=2**63 - 1)
    if record.calls is not None:
        check_labels(operation, "calls", record.calls, value)
        if record.calls.dtype != np.uint64:
            raise DTypeError(f"{operation}: calls must be uint64, got {record.calls.dtype}")
        check_shape(operation, "calls", record.calls, (2,))
        check_written(operation, "calls", record.calls, value)
