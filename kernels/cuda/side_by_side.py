"""Kernels made of bodies, alone and several in one launch.

A body is a device function of a block's number, the kernel's arguments, which it takes as one tuple, and the shared
memory it works in, an array of as many float32 as `alone` is told:

    @device
    def body(block, arguments, shared):
        x, y, size = arguments

`alone` makes the kernel of a one-dimensional grid whose blocks run it. Two kernels that do not wait for each other
become one launch: `side_by_side`, in which blocks of the one follow those of the other, or `inside`, in which the
blocks of the one run those of the other as well. All have blocks of the same number of threads; a multiprocessor gives
each block the registers and the shared memory of whichever needs more. What comes of it can be joined again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import ALIGNMENT, Kernel, cuda, device, float32, uint32
from cnn.kernels.cuda.launch import Call, Launch


def alone(
    name: str,
    body: Any,
    parameters: tuple[Any, ...],
    threads: int,
    tile: Mapping[str, int],
    min_blocks: int = 1,
    words: int = 0,
) -> Kernel:
    """The kernel whose blocks run `body`. words: of shared memory; other arguments as `Kernel` has them."""
    WORDS = words

    def with_memory(*arguments):
        shared = cuda.shared.array(WORDS, float32, alignment=ALIGNMENT)
        body(uint32(cuda.blockIdx.x), arguments, shared)

    def without(*arguments):
        body(uint32(cuda.blockIdx.x), arguments, None)

    kernel = with_memory if words else without
    kernel.__name__ = kernel.__qualname__ = name  # for profilers, which show the name in the machine code
    return Kernel(name, kernel, parameters, threads, tile, min_blocks=min_blocks, body=body, words=words)


def side_by_side(first: Launch, second: Launch) -> Launch:
    """One launch for both: the blocks of the second follow those of the first. Both come from `alone`, or from here.

    Arguments: how many blocks the first has, its arguments, those of the second.
    """
    _check(first, second)
    return Launch(_side_by_side(first.kernel, second.kernel), (first.grid[0] + second.grid[0],), first.block)


def inside(first: Launch, second: Launch) -> Launch:
    """One launch for both, with the blocks of the first: each runs its share of the second's before its own.

    For a second that is short and uses no shared memory. Side by side, its blocks would be spread over the GPU along
    with those of the first, of which some multiprocessors then get more than others: on an H100 that made kernel
    gradients, with weights packed beside them, up to half as long again.

    Arguments: how many blocks the second has, the arguments of the first, those of the second.
    """
    _check(first, second)
    return Launch(_inside(first.kernel, second.kernel), first.grid, first.block)


def call_inside(first: Call, second: Call) -> Call:
    """One launch for both, as `inside` makes it; with its arguments."""
    (launch, arguments), (other, more) = first, second
    return inside(launch, other), (np.uint32(other.grid[0]), *arguments, *more)


def all_side_by_side(calls: Iterable[Call]) -> Call:
    """One launch for all, whose blocks follow each other in that order; with its arguments."""
    first, *others = calls
    launch, arguments = first
    for other, more in others:
        arguments = np.uint32(launch.grid[0]), *arguments, *more
        launch = side_by_side(launch, other)
    return launch, arguments


def _check(first: Launch, second: Launch) -> None:
    assert first.block == second.block, f"{first.kernel.name}: {first.block}, {second.kernel.name}: {second.block}"


@cache
def _side_by_side(first: Kernel, second: Kernel) -> Kernel:
    END = 1 + len(first.parameters)
    run_first: Callable[..., None] = first.body
    run_second: Callable[..., None] = second.body

    @device
    def side_by_side(block, arguments, shared):
        blocks = arguments[0]
        if block < blocks:
            run_first(block, arguments[1:END], shared)
        else:
            run_second(uint32(block - blocks), arguments[END:], shared)

    return _joined(first, second, side_by_side)


@cache
def _inside(first: Kernel, second: Kernel) -> Kernel:
    END = 1 + len(first.parameters)
    run_first: Callable[..., None] = first.body
    run_second: Callable[..., None] = second.body

    @device
    def inside(block, arguments, shared):
        other = block
        while other < arguments[0]:
            run_second(other, arguments[END:], shared)
            other = uint32(other + uint32(cuda.gridDim.x))
        run_first(block, arguments[1:END], shared)

    return _joined(first, second, inside)


def _joined(first: Kernel, second: Kernel, body: Any) -> Kernel:
    names = dict.fromkeys((*first.name.split("_and_"), *second.name.split("_and_")))
    parameters = uint32, *first.parameters, *second.parameters
    words, min_blocks = max(first.words, second.words), max(first.min_blocks, second.min_blocks)
    tile = {**second.tile, **first.tile}
    return alone("_and_".join(names), body, parameters, first.threads, tile, min_blocks, words)
