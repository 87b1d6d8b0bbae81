"""What is launched for a network: the training step in its order, and what else there is for its layers.

Follows the step of `cnn.TrainStep`, in which activations are part of the convolution or dense layer before them. Known
from plans alone: nothing here needs a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from cnn.kernels.cuda import (
    accuracy,
    activation,
    bias,
    conv_direct,
    conv_kernel_gradient,
    conv_product,
    gather,
    loss,
    norm,
    optimizer,
    pool,
    row_sums,
)
from cnn.kernels.cuda.compiler import Kernel
from cnn.kernels.cuda.conv_phase import ConvPhase, forward_phase, input_gradient_phases
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.suites import Layer, Suite

Joined = tuple[Layer, Layer | None]  # a layer, and the activation that is computed with it

LABELS = "int64"  # what data sets come with


@dataclass(frozen=True)
class Work:
    """One launch. layer: its name in the network, or "batch", "loss", "optimizer". purpose: "forward", "input
    gradient" ... launch: None for work of a library, which `library` names.
    """

    layer: str
    purpose: str
    launch: Launch | None = None
    library: str = ""

    @property
    def name(self) -> str:
        return self.library if self.launch is None else self.launch.kernel.name

    @property
    def kernel(self) -> Kernel | None:
        return None if self.launch is None else self.launch.kernel


def training_step(suite: Suite, images: int | None = None) -> list[Work]:
    """One step, in order, with SGD."""
    images = suite.batch if images is None else images
    cost = loss.plan_softmax_cross_entropy(images, suite.classes, LABELS, False)
    layers = _joined(suite.layers)
    first = layers[0][0]
    there = [work for layer, behind in layers for work in _forward(layer, images, behind)]
    back = [
        work for layer, behind in _reversed(layers) for work in _backward(layer, images, behind, layer is not first)
    ]
    return [
        *there,
        Work("loss", "forward and backward", cost),
        *([] if cost.grid == (1,) else [Work("loss", "sum of the blocks", row_sums.plan_row_sums(1))]),
        *back,
        Work("optimizer", "update", optimizer.plan_sgd(suite.parameters, True)),
        Work("loss", "kept", library="CuPy copy"),
    ]


def further_kernels(suite: Suite, images: int | None = None) -> list[Work]:
    """Kernels of this network outside the step: the batch, evaluation, deterministic gradients, the other optimiser."""
    images = suite.batch if images is None else images
    batch, channels = (images, *suite.image), suite.image[0]
    further = [Work("batch", "gather", gather.plan_gather_batch(batch, (0.0,) * channels, (1.0,) * channels, LABELS))]
    for layer in suite.layers:
        if layer.operation == "conv":
            phase = forward_phase(layer.conv(images), layer.bias, None)
            plan = conv_kernel_gradient.plan(phase, images, deterministic=True)
            further += [Work(layer.name, "deterministic kernel gradient", part) for part in (plan.gradient, plan.add)]
        if layer.operation == "batch_norm":
            sizes = images, layer.x[0], math.prod(layer.x[1:])
            further.append(Work(layer.name, "evaluation", norm.plan_batch_norm_evaluation(*sizes)))
        elif layer.operation not in ("dropout", "add"):
            further += [Work(work.layer, "evaluation", work.launch) for work in _forward(layer, images, None)]
    return [
        *further,
        Work("accuracy", "evaluation", accuracy.plan_count_correct(suite.classes, LABELS)),
        Work("optimizer", "update, Adam", optimizer.plan_adam(suite.parameters, False)),
    ]


def _joined(layers: tuple[Layer, ...]) -> list[Joined]:
    joined: list[Joined] = []
    for layer in layers:
        before = joined[-1][0] if joined else None
        if layer.operation == "relu" and before is not None and before.operation in ("conv", "linear") and before.bias:
            joined[-1] = before, layer
        else:
            joined.append((layer, None))
    return joined


def _reversed(layers: list[Joined]) -> Iterator[Joined]:
    """The layers as the way back goes: of a residual layer the body, the shortcut, and then the sum."""
    for _, block in groupby(reversed(layers), key=lambda joined: joined[0].name.partition(".")[0]):
        yield from sorted(block, key=lambda joined: ("body" not in joined[0].name, "shortcut" not in joined[0].name))


def _forward(layer: Layer, images: int, behind: Layer | None) -> Iterator[Work]:
    function = None if behind is None else behind.operation
    purpose = "forward" if function is None else f"forward, {function}"
    size = images * math.prod(layer.x)
    if layer.operation == "conv":
        for launch in _conv_launches(forward_phase(layer.conv(images), layer.bias, function), images):
            yield Work(layer.name, purpose, launch)
    elif layer.operation == "linear":
        yield Work(layer.name, "forward", library="cuBLAS gemm")
        yield Work(layer.name, purpose, bias.plan_add_bias(images * layer.weight[0], function))
    elif layer.operation == "relu":
        yield Work(layer.name, "forward", activation.plan("relu_forward", size))
    elif layer.operation == "max_pool":
        yield Work(layer.name, "forward", pool.plan_max_pool_forward(layer.pool(images)))
    elif layer.operation == "avg_pool":
        yield Work(layer.name, "forward", pool.plan_avg_pool_forward(layer.pool(images), True))
    elif layer.operation == "batch_norm":
        sizes = images, layer.x[0], math.prod(layer.x[1:])
        yield Work(layer.name, "forward", norm.plan_batch_norm_moments(*sizes))
        yield Work(layer.name, "forward", norm.plan_batch_norm_training(*sizes))
    elif layer.operation == "dropout":
        yield Work(layer.name, "forward", library="copy of the mask from the host")
        yield Work(layer.name, "forward", library="CuPy multiply")
    else:
        yield Work(layer.name, "forward", library="CuPy add")


def _backward(layer: Layer, images: int, behind: Layer | None, needs_input_gradient: bool) -> Iterator[Work]:
    size = images * math.prod(layer.x)
    if layer.operation == "conv":
        geometry = layer.conv(images)
        if behind is not None:
            yield Work(layer.name, "derivative", activation.plan("relu_backward", images * math.prod(behind.x)))
        for what in ("weight", "bias") if layer.bias else ("weight",):
            yield Work(layer.name, f"gradient of the {what}", library="memset")
        plan = conv_kernel_gradient.plan(forward_phase(geometry, layer.bias, None), images, deterministic=False)
        yield Work(layer.name, "kernel gradient", plan.gradient)
        for phase in input_gradient_phases(geometry) if needs_input_gradient else ():
            for launch in _conv_launches(phase, images):
                yield Work(layer.name, "input gradient", launch)
    elif layer.operation == "linear":
        function = None if behind is None else behind.operation
        yield Work(layer.name, "bias gradient", bias.plan_bias_backward(layer.weight[0], function))
        yield Work(layer.name, "weight gradient", library="cuBLAS gemm")
        if needs_input_gradient:
            yield Work(layer.name, "input gradient", library="cuBLAS gemm")
    elif layer.operation == "relu":
        yield Work(layer.name, "backward", activation.plan("relu_backward", size))
    elif layer.operation == "max_pool":
        yield Work(layer.name, "backward", pool.plan_max_pool_backward(layer.pool(images)))
    elif layer.operation == "avg_pool":
        yield Work(layer.name, "backward", pool.plan_avg_pool_backward(layer.pool(images), True))
    elif layer.operation == "batch_norm":
        sizes = images, layer.x[0], math.prod(layer.x[1:])
        yield Work(layer.name, "backward", norm.plan_batch_norm_sums(*sizes))
        yield Work(layer.name, "backward", norm.plan_batch_norm_gradient(*sizes))
    else:
        yield Work(layer.name, "backward", library="CuPy multiply" if layer.operation == "dropout" else "CuPy add")


def _conv_launches(phase: ConvPhase, images: int) -> list[Launch]:
    """What computes one phase of a forward pass or an input gradient."""
    if phase.sources <= conv_direct.THIN:
        return [conv_direct.plan(phase, images)]
    plan = conv_product.plan(phase, images)
    return [plan.pack, plan.product] if plan.packed else [plan.product]
