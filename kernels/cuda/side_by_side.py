"""Kernels made of bodies, alone and two in one launch.

A body is a device function of a block's number and the kernel's arguments, which it takes as one tuple:

    @device
    def body(block, arguments):
        x, y, size = arguments

`alone` makes the kernel of a one-dimensional grid whose blocks run it. `side_by_side` makes one launch of two such
kernels that do not wait for each other: its first blocks run the first body, the rest the second. Both have blocks of
the same number of threads; a multiprocessor gives each block the registers and the static shared memory of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import Kernel, cuda, uint32
from cnn.kernels.cuda.launch import Launch


def alone(
    name: str, body: Any, parameters: tuple[Any, ...], threads: int, tile: Mapping[str, int], min_blocks: int = 1
) -> Kernel:
    """The kernel whose blocks run `body`; arguments as `Kernel` has them."""

    def kernel(*arguments):
        body(uint32(cuda.blockIdx.x), arguments)

    return Kernel(name, _named(kernel, name), parameters, threads, tile, min_blocks=min_blocks, body=body)


def side_by_side(first: Launch, second: Launch) -> Launch:
    """One launch for both. Arguments: how many blocks the first has, its arguments, those of the second.

    Both kernels come from `alone`, their grids have one dimension, and their blocks the same threads.
    """
    assert first.block == second.block, f"{first.kernel.name}: {first.block}, {second.kernel.name}: {second.block}"
    return Launch(_both(first.kernel, second.kernel), (first.grid[0] + second.grid[0],), first.block)


@cache
def _both(first: Kernel, second: Kernel) -> Kernel:
    FIRST_ARGUMENTS = len(first.parameters)
    run_first: Callable[..., None] = first.body
    run_second: Callable[..., None] = second.body

    def kernel(blocks, *arguments):
        block = uint32(cuda.blockIdx.x)
        if block < blocks:
            run_first(block, arguments[:FIRST_ARGUMENTS])
        else:
            run_second(uint32(block - blocks), arguments[FIRST_ARGUMENTS:])

    name = f"{first.name}_and_{second.name}"
    parameters = uint32, *first.parameters, *second.parameters
    return Kernel(name, _named(kernel, name), parameters, first.threads, {**second.tile, **first.tile})


def _named(kernel: Callable[..., None], name: str) -> Callable[..., None]:
    """For profilers, which show the name in the machine code."""
    kernel.__name__ = kernel.__qualname__ = name
    return kernel
