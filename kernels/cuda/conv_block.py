"""Convolution, bias, activation and pooling in one launch; the formulas stand in `cnn.kernels.conv_block`.

Forward the convolution kernels pool where their sums lie in registers. Backward nothing is unpooled in memory: the two
gradient kernels read the gradient of the maxima, and give it to where those stood. That costs them a few instructions
in a hundred, and reads a quarter of what is otherwise written and read again; a pass of its own would take longer on
every layer of the built-in networks, by the emulator's estimates. What does not depend on each other runs side by side:
the kernel gradient with the input gradient of a small layer, or with the packing of the weights for a large one.

Other windows than 2 x 2 are pooled one operation after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnn.kernels.composed import ConvBlock
from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda import conv as convolutions
from cnn.kernels.cuda import conv_direct, conv_forward, conv_kernel_gradient
from cnn.kernels.cuda import pool as pooling
from cnn.kernels.cuda.compiler import SIMULATED
from cnn.kernels.cuda.conv_phase import check_sizes, forward_phase, input_gradient_phases
from cnn.kernels.cuda.conv_windows import is_fused
from cnn.kernels.cuda.launch import Call, Launch, aligned, run
from cnn.kernels.cuda.side_by_side import side_by_side
from cnn.kernels.geometry import ConvGeometry, PoolGeometry

# Of blocks in which warps divide the channels of a small layer: fewer take too long.
LEAST_THREADS = 32 if SIMULATED else 128

_composed = ConvBlock(convolutions, pooling, activations)


def conv_block_forward(
    x: Any,
    weight: Any,
    bias: Any | None,
    conv: ConvGeometry,
    activation: str | None,
    pool: PoolGeometry | None,
    y: Any,
    argmax: Any | None,
) -> None:
    if pool is not None and not is_fused(pool):
        _composed.forward(x, weight, bias, conv, activation, pool, y, argmax)
        return
    check_sizes("conv_block_forward", conv.x_shape, conv.y_shape, conv.weight_shape)
    phase = forward_phase(conv, bias is not None, activation, pooled=pool is not None)
    plan = conv_forward.plan(phase, conv.batch)
    others = {"bias": _aligned(bias), "places": argmax}
    run(conv_forward.calls(plan, conv.batch, aligned(x), aligned(weight), y, **others))


def conv_block_backward(
    x: Any,
    weight: Any,
    grad_output: Any,
    conv: ConvGeometry,
    activation: str | None,
    y: Any | None,
    pool: PoolGeometry | None,
    argmax: Any | None,
    input_activation: str | None,
    deterministic: bool,
    grad_weight: Any,
    grad_bias: Any | None,
    grad_x: Any | None,
    zeroed: bool = False,
) -> None:
    if pool is not None and not is_fused(pool):
        _composed.backward(
            x,
            weight,
            grad_output,
            conv,
            activation,
            y,
            pool,
            argmax,
            input_activation,
            deterministic,
            grad_weight,
            grad_bias,
            grad_x,
            zeroed,
        )
        return
    check_sizes("conv_block_backward", conv.x_shape, conv.y_shape, conv.weight_shape)
    options = activation, pool is not None, input_activation, deterministic
    plan = plan_backward(conv, grad_bias is not None, *options, needs_input_gradient=grad_x is not None)
    x, grad_output, gradient = aligned(x), aligned(grad_output), {"winners": _aligned(argmax), "outputs": _aligned(y)}
    calls: list[Call] = []
    for part in plan.inputs:
        calls += conv_forward.calls(part, conv.batch, grad_output, aligned(weight), grad_x, inputs=x, **gradient)
    beside = calls.pop(0) if plan.together else None
    if not zeroed:
        conv_kernel_gradient.clear(plan.kernel, grad_weight, grad_bias)
    arrays = x, grad_output, grad_weight, grad_bias
    run([*conv_kernel_gradient.calls(plan.kernel, conv.batch, *arrays, beside=beside, **gradient), *calls])


@dataclass(frozen=True)
class BackwardPlan:
    """kernel: of the kernel gradient. inputs: of the phases of the input gradient. together: whether the first launch
    of those runs beside the first of the kernel gradient.
    """

    kernel: conv_kernel_gradient.Plan
    inputs: tuple[conv_forward.Plan, ...]
    together: bool

    @property
    def launches(self) -> list[Launch]:
        """In their order."""
        kernel, inputs = self.kernel.gradient, [launch for part in self.inputs for launch in part.launches]
        if self.together:
            kernel = side_by_side(kernel, inputs.pop(0))
        return [kernel, *([] if self.kernel.add is None else [self.kernel.add]), *inputs]


def plan_backward(
    conv: ConvGeometry,
    bias: bool,
    activation: str | None,
    pooled: bool,
    input_activation: str | None,
    deterministic: bool,
    *,
    needs_input_gradient: bool,
) -> BackwardPlan:
    phase = forward_phase(conv, bias, None, pooled=pooled, derivative=activation)
    kernel = conv_kernel_gradient.plan(phase, conv.batch, deterministic)
    if not needs_input_gradient:
        return BackwardPlan(kernel, (), together=False)
    phases = input_gradient_phases(
        conv, source_pooled=pooled, derivative=activation, target_derivative=input_activation
    )
    threads = kernel.gradient.block[0]
    first, *others = phases
    small = conv_direct.serves(first) and conv_direct.is_small(first, conv.batch) and threads >= LEAST_THREADS
    packs = not conv_direct.serves(first)
    inputs = [conv_forward.plan(first, conv.batch, threads if small or packs else None)]
    inputs += [conv_forward.plan(phase, conv.batch) for phase in others]
    return BackwardPlan(kernel, tuple(inputs), together=small or inputs[0].pack is not None)


def _aligned(array: Any | None) -> Any | None:
    return None if array is None else aligned(array)
