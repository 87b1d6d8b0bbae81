"""The kernel gradient: the correlation of the input with the output gradient, summed over every overlay.

    grad_weight[g, m, c, r, s] = sum over n, p, q of grad_output[n, g, m, p, q] * x[n, g, c, h(p) + r dh, w(q) + s dw]
    grad_bias[g, m]            = sum over n, p, q of grad_output[n, g, m, p, q]

A block sums one long run of overlays (see `conv_overlays`), and at the end of it adds its sums to the shared weights
with atomics; there are as many runs as fill a GPU.

deterministic=True: every block writes its sums to a workspace instead, and a second kernel adds them run by run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda import conv_tensor_gradient
from cnn.kernels.cuda.compiler import SIMULATED
from cnn.kernels.cuda.conv_gradient_plan import Plan
from cnn.kernels.cuda.conv_overlays import Tile, overlay_sums
from cnn.kernels.cuda.conv_phase import ConvPhase, check_sizes, forward_phase
from cnn.kernels.cuda.conv_run_sums import ADD_THREADS, add_runs, rows_of_workspace
from cnn.kernels.cuda.launch import Call, Launch, aligned, run
from cnn.kernels.cuda.side_by_side import all_side_by_side, call_inside
from cnn.kernels.cuda.tensor import served
from cnn.kernels.cuda.tile_table import Choice, choose, kept, layer_of
from cnn.kernels.geometry import ConvGeometry
from cnn.kernels.precision import FLOAT32

# Blocks that give each of 132 multiprocessors four; more runs would only add atomics. On an H100, two or six took as
# long for the layers of the built-in networks, or up to a tenth longer.
FULL_GRID = 528

# Overlays in a run, at least: the sums of a block must be worth the atomics that add them.
SHORTEST_RUN = 128


def conv_kernel_gradient(
    x: Any,
    grad_output: Any,
    geometry: ConvGeometry,
    deterministic: bool,
    precision: str,
    out: Any,
    grad_bias: Any = None,
) -> None:
    plan_ = _plan(geometry, grad_bias is not None, deterministic, served(precision))
    clear(plan_, out, grad_bias)
    run(calls(plan_, geometry.batch, aligned(x), aligned(grad_output), out, grad_bias))


@kept
def _plan(geometry: ConvGeometry, bias: bool, deterministic: bool, precision: str) -> Plan:
    check_sizes("conv_kernel_gradient", geometry.x_shape, geometry.y_shape, geometry.weight_shape)
    return plan(forward_phase(geometry, bias, None), geometry.batch, deterministic, precision=precision)


def clear(plan_: Plan, grad_weight: Any, grad_bias: Any | None) -> None:
    """What atomics add to."""
    if plan_.add is None:
        grad_weight.fill(0)
        if grad_bias is not None:
            grad_bias.fill(0)


def calls(
    plan_: Plan,
    images: int,
    x: Any,
    grad_output: Any,
    grad_weight: Any,
    grad_bias: Any | None,
    *,
    winners: Any | None = None,
    outputs: Any | None = None,
    beside: Call | None = None,
    packing: Call | None = None,
) -> list[Call]:
    """What adds the gradients to grad_weight and grad_bias. Arrays are aligned; winners, outputs: as in
    `conv_forward.arguments`. beside, packing: calls that neither need the first one nor are needed by it, and become
    one with it: see `side_by_side`, where both ways stand.
    """
    bias = grad_weight if grad_bias is None else grad_bias  # an address that is never used
    sums = grad_weight, bias
    if plan_.add is not None:
        sums = (buffers.empty(max(plan_.workspace, 1), np.float32, like=x),) * 2
    winners, outputs = (grad_output if array is None else array for array in (winners, outputs))
    first: Call = plan_.gradient, (x, grad_output, winners, outputs, *sums, np.uint32(images), np.uint32(plan_.run))
    if packing is not None:
        first = call_inside(first, packing)
    if beside is not None:
        first = all_side_by_side([first, beside])
    if plan_.add is None:
        return [first]
    return [first, (plan_.add, (sums[0], grad_weight, bias, np.uint32(plan_.runs)))]


def plan(
    phase: ConvPhase, images: int, deterministic: bool, tile: Tile | None = None, precision: str = FLOAT32
) -> Plan:
    """The launches for `images` images, with the tile that `choose_tile` picks where none is given.

    precision: one that the GPU serves.
    """
    if _on_tensor_cores(phase, precision):
        return conv_tensor_gradient.plan(phase, images, precision, deterministic)
    tile = tile or choose_tile(phase, images)
    tiles = _tiles_of(phase, tile)
    overlays = images * phase.pixels
    wanted = 2 if SIMULATED else max(FULL_GRID // tiles, 1)
    run = -(-max(-(-overlays // wanted), SHORTEST_RUN) // tile.depth) * tile.depth
    runs = -(-overlays // run)
    block_sums = rows_of_workspace(tile.rows, tile.columns) * tile.columns
    weights = phase.groups * phase.targets * phase.sources * phase.taps
    return Plan(
        gradient=Launch(overlay_sums(phase, tile, deterministic), (runs * tiles,), (tile.threads,)),
        run=run,
        runs=runs,
        workspace=runs * tiles * block_sums if deterministic else 0,
        add=Launch(add_runs(phase.alone, tile.rows, tile.columns), (-(-weights // ADD_THREADS),), (ADD_THREADS,))
        if deterministic
        else None,
    )


def choose_tile(phase: ConvPhase, images: int) -> Tile:
    return choose(_tiles(phase, images))


def large_tile(phase: ConvPhase) -> Tile | None:
    """Of four warps or more, for a kernel that runs beside that of a small layer's input gradient, whose warps divide
    the channels. None where most of it would be empty.
    """
    tile = Tile(16, 160, 16, 4) if phase.targets <= 16 else Tile(32, 64, 16, 4)
    if SIMULATED:
        tile = Tile(16, 32, 8, 4)
    return tile if 2 * phase.sources * phase.taps > tile.columns else None


def tiles(phase: ConvPhase, images: int, precision: str = FLOAT32) -> Choice[Tile] | None:
    """Which there are for a phase; None on tensor cores, which have one."""
    return None if _on_tensor_cores(phase, precision) else _tiles(phase, images)


def _tiles(phase: ConvPhase, images: int) -> Choice[Tile]:
    """The rule: as many rows as there are targets to fill them, and 8 x 8 sums a thread where there are overlays enough
    for runs that these are worth: long ones where the tile is small.
    """
    if SIMULATED:
        possible = [Tile(16, 32, 8, 4)]
    elif phase.targets <= 16:
        possible = [Tile(16, 32, 32, 4), Tile(16, 64, 32, 4), Tile(16, 32, 16, 4)]
    else:
        wide, narrow, run = Tile(64, 64, 16, 8), Tile(64, 32, 16, 4), SHORTEST_RUN
        if phase.targets <= 32:
            wide, narrow, run = Tile(32, 64, 16, 8), Tile(32, 32, 32, 4), 4 * SHORTEST_RUN
        enough = _tiles_of(phase, wide) * images * phase.pixels >= FULL_GRID * run
        possible = [wide, narrow] if enough else [narrow, wide]
    return Choice("conv_kernel_gradient", layer_of(phase, images), tuple(possible))


def _tiles_of(phase: ConvPhase, tile: Tile) -> int:
    """Blocks for each run."""
    return phase.groups * -(-phase.targets // tile.rows) * -(-phase.sources * phase.taps // tile.columns)


def _on_tensor_cores(phase: ConvPhase, precision: str) -> bool:
    return precision != FLOAT32 and conv_tensor_gradient.serves(phase)
