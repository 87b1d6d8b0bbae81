"""The code of dense layers on every target: registers, widths of loads, no doubles, no spills, no atomics."""

from __future__ import annotations

import re
from functools import cache

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda.compiler import TARGETS, Binary, compile_kernel
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.linear_backward import choose_slices, plan_linear_backward
from cnn.kernels.cuda.linear_forward import choose_tile, plan_linear_forward

LAUNCHES: dict[str, Launch] = {
    "forward": plan_linear_forward(64, 400, 120, True, "relu"),
    "forward, long": plan_linear_forward(64, 9216, 128, True, "tanh"),
    "forward, dropped": plan_linear_forward(64, 4096, 128, True, "relu", dropped=True),
    "forward, odd": plan_linear_forward(64, 401, 121, False, None),
    "backward": plan_linear_backward(64, 400, 120, True, None, "relu", True),
    "backward, no bias": plan_linear_backward(64, 400, 120, False, None, "relu", True),
    "backward, long": plan_linear_backward(64, 9216, 128, True, "tanh", "sigmoid", True),
    "backward, odd": plan_linear_backward(64, 401, 121, False, "relu", None, True),
}


@cache
def code(name: str, sm: int) -> tuple[Binary, str]:
    binary = compile_kernel(LAUNCHES[name].kernel, sm)
    return binary, binary.path.with_suffix(".ptx").read_text()


@pytest.mark.parametrize("sm", TARGETS)
def test_no_spill_no_double_no_local_memory_no_atomics(sm: int) -> None:
    for name in LAUNCHES:
        binary, ptx = code(name, sm)
        assert binary.spill_bytes == binary.stack_bytes == 0, name
        assert not re.search(r"\.f64|\.local|^\s*(@%p\d+ )?(atom|red)\.", ptx, re.MULTILINE), name


@pytest.mark.parametrize("sm", TARGETS)
def test_registers_leave_room_for_blocks(sm: int) -> None:
    for name, launch in LAUNCHES.items():
        blocks = 2 if name in ("forward", "forward, odd", "backward", "backward, no bias") else 1
        assert code(name, sm)[0].registers <= 65_536 // launch.block[0] // blocks, name


@pytest.mark.parametrize(
    ("name", "wide", "narrow"),
    [
        # Four rows and four columns, or eight, and the bias.
        ("forward", 4 + 4, 1),
        ("forward, long", 8 + 8, 1),
        ("forward, odd", 0, 4 * (4 + 4)),
        # g as 4 images of 8 filters and as 8 of 4, 4 terms of what it is multiplied with, x in the epilogue.
        ("backward", 8 + 8 + 4 + 1, 0),
        ("backward, long", 2 * (8 + 8) + 4 + 8, 0),
        ("backward, odd", 0, 2 * (32 + 32) + 16),
    ],
)
def test_global_loads(name: str, wide: int, narrow: int) -> None:
    _, ptx = code(name, 90)
    assert len(re.findall(r"ld\.global(?:\.nc)?\.v4\.f32", ptx)) == wide
    assert len(re.findall(r"ld\.global(?:\.nc)?\.f32", ptx)) == narrow


def test_multiply_adds_are_fused() -> None:
    # 4 x 4 sums of four channels, 8 x 8 of four, and 8 x 4 of four terms, straight-line code each.
    for name, count in (("forward", 64), ("forward, long", 256), ("backward", 128), ("backward, odd", 128)):
        assert len(re.findall(r"fma\.rn\.f32", code(name, 90)[1])) >= count, name


def test_a_batch_more_is_another_grid_of_the_same_kernel() -> None:
    for plan, options in ((plan_linear_forward, (True, None)), (plan_linear_backward, (True, None, None, True))):
        one, two = (plan(images, 400, 120, *options) for images in (64, 96))
        assert one.kernel is two.kernel
        assert one.grid != two.grid
    assert plan_linear_forward(2**24, 4, 10, True, None).grid == (2**21, 2)  # the second may be 65,535 at most


def test_a_reduction_is_cut_while_that_fills_multiprocessors() -> None:
    # Runs of 32 channels for each of up to 16 warps; 128 for each of 8 where a lane holds 8 x 8 sums.
    tiles = [choose_tile(channels) for channels in (1, 32, 33, 400, 1000, 1024, 9216)]
    assert [(tile.side, tile.slices) for tile in tiles] == [(4, 1), (4, 1), (4, 2), (4, 13), (4, 16), (8, 8), (8, 8)]
    assert [choose_slices(warps, 64) for warps in (1, 264, 265, 1056, 1057)] == [8, 8, 4, 2, 1]
    assert choose_slices(1057, 1000) == 8  # a slice would be longer than 128 terms
