"""Convolution, bias, activation and pooling in one launch; the formulas stand in `cnn.kernels.conv_block`.

Forward the convolution kernels pool where their sums lie in registers. Backward a small layer unpools nothing in
memory: its gradient kernels read the gradient of the maxima, and give it to where those stood. A wide layer has one
pass for unpooling and derivative: by the emulator's estimates its products would take 10 us longer for reading maxima,
8 of them for the input gradient (cifar-cnn's second layer, 128 images), and the pass takes 6.3. What does not depend on
each other is one launch: the kernel gradient with the input gradient of a small layer, or with the packing of the
weights for a large one.

Other windows than 2 x 2 are pooled one operation after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.composed import ConvBlock
from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda import conv as convolutions
from cnn.kernels.cuda import conv_direct, conv_forward, conv_gradient_plan, conv_kernel_gradient
from cnn.kernels.cuda import pool as pooling
from cnn.kernels.cuda import residual as residuals
from cnn.kernels.cuda.conv_phase import check_sizes, forward_phase, input_gradient_phases
from cnn.kernels.cuda.conv_windows import is_fused
from cnn.kernels.cuda.launch import Call, Launch, aligned, run
from cnn.kernels.cuda.side_by_side import inside, side_by_side
from cnn.kernels.cuda.tensor import served
from cnn.kernels.cuda.tile_table import kept
from cnn.kernels.geometry import ConvGeometry, PoolGeometry
from cnn.kernels.precision import FLOAT32

_composed = ConvBlock(convolutions, pooling, activations, residuals)


def conv_block_forward(
    x: Any,
    weight: Any,
    bias: Any | None,
    conv: ConvGeometry,
    activation: str | None,
    pool: PoolGeometry | None,
    precision: str,
    y: Any,
    argmax: Any | None,
) -> None:
    if pool is not None and not is_fused(pool):
        _composed.forward(x, weight, bias, conv, activation, pool, precision, y, argmax)
        return
    plan = _plan_forward(conv, bias is not None, activation, pool is not None, served(precision))
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
    grad_around: Any | None,
    deterministic: bool,
    precision: str,
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
            grad_around,
            deterministic,
            precision,
            grad_weight,
            grad_bias,
            grad_x,
            zeroed,
        )
        return
    own, own_activation = grad_x, input_activation
    if grad_x is not None and grad_around is not None:
        own, own_activation = empty(conv.x_shape, grad_x.dtype, like=grad_x), None
    options = activation, pool, own_activation, deterministic
    plan = _plan_backward(conv, grad_bias is not None, *options, grad_x is not None, served(precision))
    if plan.before is not None:
        gradient = empty(conv.y_shape, grad_output.dtype, like=grad_output)
        if pool is None:
            getattr(activations, f"{activation}_backward")(grad_output, y, gradient)
        else:
            pooling.max_pool_backward(grad_output, argmax, pool, gradient, activation, y)
        grad_output, argmax, y = gradient, None, None
    x, grad_output, read = aligned(x), aligned(grad_output), {"winners": _aligned(argmax), "outputs": _aligned(y)}
    calls: list[Call] = []
    packing = beside = None
    if plan.inputs is not None:
        calls = conv_forward.calls(plan.inputs, conv.batch, grad_output, aligned(weight), own, inputs=x, **read)
        if plan.inputs.pack is not None:
            packing = calls.pop(0)
        elif plan.together:
            beside = calls.pop(0)
    if not zeroed:
        conv_kernel_gradient.clear(plan.kernel, grad_weight, grad_bias)
    arrays = x, grad_output, grad_weight, grad_bias
    first = conv_kernel_gradient.calls(plan.kernel, conv.batch, *arrays, beside=beside, packing=packing, **read)
    run([*first, *calls])
    if own is not grad_x:
        residuals.residual_backward(own, grad_around, input_activation, x, grad_x)


@kept
def _plan_forward(
    conv: ConvGeometry, bias: bool, activation: str | None, pooled: bool, precision: str
) -> conv_forward.Plan:
    check_sizes("conv_block_forward", conv.x_shape, conv.y_shape, conv.weight_shape)
    phase = forward_phase(conv, bias, activation, pooled=pooled)
    return conv_forward.plan([phase], conv.batch, precision)


@kept
def _plan_backward(conv: ConvGeometry, *options: Any) -> BackwardPlan:
    check_sizes("conv_block_backward", conv.x_shape, conv.y_shape, conv.weight_shape)
    return plan_backward(conv, *options)


@dataclass(frozen=True)
class BackwardPlan:
    """before: the pass that makes the gradient of the convolution's sums, where the others do not read it from that of
    y. kernel: of the kernel gradient, inside which weights are packed. inputs: of the input gradient. together: whether
    that has a launch which runs beside the kernel gradient.
    """

    before: Launch | None
    kernel: conv_gradient_plan.Plan
    inputs: conv_forward.Plan | None
    together: bool

    @property
    def launches(self) -> list[Launch]:
        """In their order."""
        kernel = self.kernel.gradient
        others = [] if self.inputs is None else self.inputs.launches
        if self.inputs is not None and self.inputs.pack is not None:
            kernel = inside(kernel, others.pop(0))
        elif self.together:
            kernel = side_by_side(kernel, others.pop(0))
        return [launch for launch in (self.before, kernel, self.kernel.add, *others) if launch is not None]


def plan_backward(
    conv: ConvGeometry,
    bias: bool,
    activation: str | None,
    pool: PoolGeometry | None,
    input_activation: str | None,
    deterministic: bool,
    needs_input_gradient: bool,
    precision: str = FLOAT32,
) -> BackwardPlan:
    """For windows of 2 x 2, or none. precision: one that the GPU serves."""
    pooled, before = pool is not None, None
    options: dict[str, Any] = {"source_pooled": pooled, "derivative": activation, "target_derivative": input_activation}
    phases = input_gradient_phases(conv, **options) if needs_input_gradient else []
    if conv.filters // conv.groups > conv_direct.FEW or not all(map(conv_direct.serves, phases)):
        if pool is not None:
            before = pooling.plan_max_pool_backward(pool, activation)
        elif activation is not None:
            before = activations.plan(f"{activation}_backward", math.prod(conv.y_shape))
        pooled, activation = False, None
        phases = [replace(phase, source_pooled=False, derivative=None) for phase in phases]
    phase = forward_phase(conv, bias, None, pooled=pooled, derivative=activation)
    tile = None
    if phases and conv_direct.serves(phases[0]) and conv_direct.is_small(phases[0], conv.batch):
        tile = conv_kernel_gradient.large_tile(phase)
    kernel = conv_kernel_gradient.plan(phase, conv.batch, deterministic, tile, precision)
    if not phases:
        return BackwardPlan(before, kernel, None, together=False)
    small, threads = tile is not None, kernel.gradient.block[0]
    inputs = conv_forward.plan(phases, conv.batch, precision, threads if small else None, threads)
    return BackwardPlan(before, kernel, inputs, together=small and inputs.pack is None)


def _aligned(array: Any | None) -> Any | None:
    return None if array is None else aligned(array)
