"""The number of images whose largest score is that of their label; the rules stand in `cnn.kernels.accuracy`."""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import SIMULATED, Kernel, cuda, float32, int32, pointer, types, uint32
from cnn.kernels.cuda.launch import Launch, contiguous, integers

# One block counts a batch: it needs no second pass, and a thread has some ten scores to compare for an image.
THREADS = 32 if SIMULATED else 1024  # the simulator runs a Python thread for each


def count_correct(scores: Any, labels: Any, out: Any) -> None:
    labels = integers(labels)
    plan_count_correct(scores.shape[1], labels.dtype.name)(contiguous(scores), labels, len(labels), out)


@cache
def plan_count_correct(classes: int, labels: str) -> Launch:
    """labels: the name of their dtype."""

    def count_correct(scores, labels, images, out):
        # A thread owns every (number of threads)-th image.
        thread = uint32(cuda.threadIdx.x)
        total = int32(0)
        first = uint32(0)
        while first < images:
            image = uint32(first + thread)
            correct = False
            if image < images:
                start = uint32(image * uint32(classes))
                largest, best = scores[start], uint32(0)
                number = largest == largest
                j = uint32(1)
                while j < uint32(classes):
                    score = scores[uint32(start + j)]
                    number = number and score == score
                    if score > largest:
                        largest, best = score, j
                    j = uint32(j + uint32(1))
                correct = number and labels[image] == best
            total += int32(cuda.syncthreads_count(int32(correct)))
            first = uint32(first + uint32(THREADS))
        if thread == uint32(0):
            out[0] = total

    parameters = pointer(float32), pointer(getattr(types, labels)), uint32, pointer(int32)
    return Launch(Kernel("count_correct", count_correct, parameters, THREADS), (1,), (THREADS,))
