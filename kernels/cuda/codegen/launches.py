"""What is launched for a network: the training step in its order, and what else there is for its layers.

Follows the step of `cnn.TrainStep` on data that the GPU holds, in which activations, and pooling, are part of the
convolution or dense layer before them. Known from plans alone: nothing here needs a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise, repeat

from cnn.kernels.cuda import (
    accuracy,
    activation,
    conv_block,
    conv_forward,
    dropout,
    gather,
    linear_backward,
    linear_forward,
    loss,
    norm,
    optimizer,
    pool,
    residual,
    row_sums,
)
from cnn.kernels.cuda.compiler import Kernel
from cnn.kernels.cuda.conv_phase import forward_phase
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.suites import Layer, Suite

LABELS = "int64"  # what data sets come with

# What an activation right behind is computed with.
JOINING = ("conv", "linear", "batch_norm", "add")


@dataclass(frozen=True)
class Joined:
    """A layer, and the activation, the pooling and the dropout that are computed with it."""

    layer: Layer
    activation: str | None = None
    pool: Layer | None = None
    dropout: Layer | None = None


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
    first = layers[0].layer
    there = [work for joined in _in_order(layers) for work in _forward(joined, images)]
    taken = _derivatives(layers)
    back = [
        work
        for joined in _reversed(layers, taken)
        for work in _backward(joined, images, *taken[joined.layer.name], joined.layer is not first)
    ]
    update = optimizer.plan_sgd(suite.parameters, True)
    drops = any(layer.operation == "dropout" for layer in suite.layers)
    zeros, ones = ((value,) * suite.image[0] for value in (0.0, 1.0))
    return [
        Work("batch", "gather", gather.plan_gather_next((images, *suite.image), zeros, ones)),
        Work("optimizer", "clear gradients", library="memset"),
        *there,
        Work("loss", "forward and backward", cost),
        *([] if cost.grid == (1,) else [Work("loss", "sum of the blocks", row_sums.plan_row_sums(1))]),
        *back,
        Work("optimizer", "update", optimizer.with_record(update, calls=drops)),
    ]


def evaluation(suite: Suite, images: int) -> list[Work]:
    """The outputs for so many images, in order."""
    layers = [replace(joined, dropout=None) for joined in _joined(suite.layers) if joined.layer.operation != "dropout"]
    return [work for joined in _in_order(layers) for work in _evaluated(joined, images)]


def convolutions(suite: Suite) -> Iterator[tuple[Joined, str | None, str | None]]:
    """The convolutions with what is computed along, and the derivatives they take: their own activation's, and that of
    their input.
    """
    layers = _joined(suite.layers)
    taken = _derivatives(layers)
    for joined in layers:
        if joined.layer.operation == "conv":
            yield joined, *taken[joined.layer.name]


def further_kernels(suite: Suite, images: int | None = None) -> list[Work]:
    """Kernels of this network outside the step: the batch, evaluation, deterministic gradients, the other optimiser."""
    images = suite.batch if images is None else images
    batch, channels = (images, *suite.image), suite.image[0]
    further = [Work("batch", "gather", gather.plan_gather_batch(batch, (0.0,) * channels, (1.0,) * channels, LABELS))]
    layers = _joined(suite.layers)
    taken = _derivatives(layers)
    for joined in layers:
        if joined.layer.operation == "conv":
            options = *taken[joined.layer.name], joined.layer is not layers[0].layer
            for work in _backward(joined, images, *options, deterministic=True):
                further.append(replace(work, purpose=f"deterministic {work.purpose}"))
    alone = [Joined(layer) for layer in suite.layers if layer.operation not in ("dropout", "add")]
    return [
        *further,
        *(work for joined in alone for work in _evaluated(joined, images)),
        Work("accuracy", "evaluation", accuracy.plan_count_correct(suite.classes, LABELS)),
        Work("optimizer", "update, Adam", optimizer.plan_adam(suite.parameters, False)),
    ]


def _joined(layers: tuple[Layer, ...]) -> list[Joined]:
    joined: list[Joined] = []
    for layer in layers:
        last = joined[-1] if joined else None
        made = None if last is None or last.pool is not None or last.dropout is not None else last.layer.operation
        if last is not None and layer.operation == "relu" and made in JOINING and last.activation is None:
            joined[-1] = replace(last, activation=layer.operation)
        elif last is not None and layer.operation == "max_pool" and made == "conv":
            joined[-1] = replace(last, pool=layer)
        elif last is not None and layer.operation == "dropout" and last.activation == "relu":
            joined[-1] = replace(last, dropout=layer)
        else:
            joined.append(Joined(layer))
    return joined


def _derivatives(layers: list[Joined]) -> dict[str, tuple[str | None, str | None]]:
    """The activations whose derivatives each layer takes on the way back: its own, and that of its input."""
    own = {joined.layer.name: joined.activation for joined in layers}
    before = dict.fromkeys(own)
    for one, following in pairwise(layers):
        name, next_name = one.layer.name, following.layer.name
        if own[name] is None:
            continue
        block, inside, _ = next_name.partition(".")
        if inside and name.partition(".")[0] != block:  # in front of a residual layer, whose sum takes it
            before[block], own[name] = own[name], None
        elif following.layer.operation in (("conv", "linear") if one.dropout is None else ("linear",)):
            before[next_name], own[name] = own[name], None
    return {name: (own[name], before[name]) for name in own}


def _place(joined: Joined) -> str:
    """In the network: the same for all layers of a block."""
    return joined.layer.name.partition(".")[0]


def _in_order(layers: list[Joined]) -> Iterator[Joined]:
    """The layers as they are computed: the normalisation that adds what goes around a body comes after that."""
    for _, block in groupby(layers, key=_place):
        parts = list(block)
        if parts[-1].layer.operation == "add":
            body = [part for part in parts if "body" in part.layer.name]
            if body[-1].layer.operation == "batch_norm" and body[-1].activation is None:
                parts.remove(body[-1])
                parts.insert(-1, body[-1])
        yield from parts


def _reversed(layers: list[Joined], taken: dict[str, tuple[str | None, str | None]]) -> Iterator[Joined]:
    """The layers as the way back goes: of a residual layer its own activation, shortcut, body, and then the sum."""
    for _, block in groupby(reversed(layers), key=_place):
        parts = sorted(block, key=lambda joined: ("shortcut" not in joined.layer.name, "body" not in joined.layer.name))
        *others, last = parts
        if last.layer.operation == "add":
            own = taken[last.layer.name][0]
            if own is not None:
                yield Joined(replace(last.layer, operation=own))
            # The sum there is of outputs, and that of gradients has the shape of the input.
            entered = next(part.layer.x for part in reversed(others) if part.layer.name.endswith(".body.0"))
            last = replace(last, layer=replace(last.layer, x=entered))
        yield from (*others, last)


def _forward(joined: Joined, images: int) -> Iterator[Work]:
    layer, function, pooling = joined.layer, joined.activation, joined.pool
    purpose = ", ".join(part for part in ("forward", function, pooling and pooling.operation) if part)
    size = images * math.prod(layer.x)
    if layer.operation == "conv":
        phase = forward_phase(layer.conv(images), layer.bias, function, pooled=pooling is not None)
        for launch in conv_forward.plan([phase], images, layer.precision).launches:
            yield Work(layer.name, purpose, launch)
        if joined.dropout is not None:
            yield Work(joined.dropout.name, "forward", dropout.plan_dropout(images * math.prod(joined.dropout.x)))
    elif layer.operation == "linear":
        filters, channels = layer.weight
        sizes = images, channels, filters
        options = layer.bias, function, joined.dropout is not None
        yield Work(layer.name, purpose, linear_forward.plan_linear_forward(*sizes, *options))
    elif layer.operation == "relu":
        yield Work(layer.name, "forward", activation.plan("relu_forward", size))
    elif layer.operation == "max_pool":
        yield Work(layer.name, "forward", pool.plan_max_pool_forward(layer.pool(images)))
    elif layer.operation == "avg_pool":
        yield Work(layer.name, "forward", pool.plan_avg_pool_forward(layer.pool(images), True))
    elif layer.operation == "batch_norm":
        sizes = images, layer.x[0], math.prod(layer.x[1:])
        yield Work(layer.name, purpose, norm.plan_batch_norm_moments(*sizes))
        yield Work(layer.name, purpose, norm.plan_batch_norm_training(*sizes, function))
    elif layer.operation == "dropout":
        yield Work(layer.name, "forward", dropout.plan_dropout(size))
    else:
        yield Work(layer.name, purpose, residual.plan_residual_forward(size, function))


def _evaluated(joined: Joined, images: int) -> Iterator[Work]:
    layer = joined.layer
    if layer.operation == "batch_norm":
        sizes = images, layer.x[0], math.prod(layer.x[1:])
        yield Work(layer.name, "evaluation", norm.plan_batch_norm_evaluation(*sizes, joined.activation))
    else:
        for work in _forward(joined, images):
            yield Work(work.layer, "evaluation", work.launch, work.library)


def _backward(
    joined: Joined,
    images: int,
    own: str | None,
    before: str | None,
    needs_input_gradient: bool,
    deterministic: bool = False,
) -> Iterator[Work]:
    layer = joined.layer
    size = images * math.prod(layer.x)
    if layer.operation == "conv":
        if joined.dropout is not None and own is not None:
            yield Work(joined.dropout.name, "backward", dropout.plan_dropout(images * math.prod(joined.dropout.x)))
        pooling = None if joined.pool is None else joined.pool.pool(images)
        options = layer.bias, own, pooling, before, deterministic, needs_input_gradient, layer.precision
        plan = conv_block.plan_backward(layer.conv(images), *options)
        purposes = ["unpooling"] * (plan.before is not None)
        purposes += ["both gradients" if plan.together else "kernel gradient"]
        purposes += ["kernel gradient"] * deterministic
        for purpose, launch in zip(chain(purposes, repeat("input gradient")), plan.launches, strict=False):
            yield Work(layer.name, purpose, launch)
    elif layer.operation == "linear":
        filters, channels = layer.weight
        sizes = images, channels, filters
        launch = linear_backward.plan_linear_backward(*sizes, layer.bias, own, before, needs_input_gradient)
        yield Work(layer.name, "backward", launch)
    elif layer.operation == "relu":
        yield Work(layer.name, "backward", activation.plan("relu_backward", size))
    elif layer.operation == "max_pool":
        yield Work(layer.name, "backward", pool.plan_max_pool_backward(layer.pool(images)))
    elif layer.operation == "avg_pool":
        yield Work(layer.name, "backward", pool.plan_avg_pool_backward(layer.pool(images), True))
    elif layer.operation == "batch_norm":
        sizes = images, layer.x[0], math.prod(layer.x[1:])
        yield Work(layer.name, "backward", norm.plan_batch_norm_sums(*sizes, own))
        yield Work(layer.name, "backward", norm.plan_batch_norm_gradient(*sizes, own))
    elif layer.operation == "dropout":
        yield Work(layer.name, "backward", dropout.plan_dropout(size))
    else:
        yield Work(layer.name, "backward", residual.plan_residual_backward(size, before))
