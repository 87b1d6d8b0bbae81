"""ONNX's own test cases, as calls of `cnn.kernels`: the node tests, and models recorded from PyTorch with its results.

A case that our functions cannot express raises `Unsupported` with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cnn import kernels

Array = np.ndarray[Any, Any]

# Modules of node tests whose operators are ours, one way or another.
NODE_MODULES = (
    "averagepool",
    "batch_normalization",
    "conv",
    "convtranspose",
    "globalaveragepool",
    "globalmaxpool",
    "leakyrelu",
    "maxpool",
    "maxunpool",
    "momentum",
    "relu",
    "sigmoid",
    "softmax_cross_entropy_loss",
    "tanh",
)
RECORDED = ("pytorch-converted", "pytorch-operator")


class Unsupported(Exception):
    """Why no function of `cnn.kernels` computes this case."""


class Case(NamedTuple):
    name: str
    operator: str
    attributes: dict[str, Any]
    inputs: list[Any]
    outputs: list[Any]

    def run(self) -> list[tuple[Array, Array]]:
        """(ours, ONNX's) for every output that both have."""
        if any(isinstance(x, np.ndarray) and x.dtype == np.uint8 for x in self.inputs):
            raise Unsupported("integer arrays")
        compute = globals().get(f"_{self.operator}")
        if compute is None:
            raise Unsupported("not an operator of cnn.kernels")
        ours: list[Array] = compute(self, *self.inputs, **self.attributes)
        return list(zip(ours, self.outputs, strict=False))


def node_cases() -> Iterator[Case]:
    """The node tests, whose expected values ONNX computes as the modules are imported."""
    node = import_module("onnx.backend.test.case.node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in NODE_MODULES:
            import_module(f"{node.__name__}.{module}")
    for case in node._NodeTestCases:
        name = case.name.removeprefix("test_")
        if not name.endswith("_expanded") and "_expanded_" not in name:
            for inputs, outputs in case.data_sets:
                yield _case(name, case.model, list(inputs), list(outputs))


def recorded_cases() -> Iterator[Case]:
    """Models exported from PyTorch, beside what PyTorch computed."""
    data = Path(import_module("onnx.backend.test").__file__ or "").parent / "data"
    for kind in RECORDED:
        for folder in sorted((data / kind).iterdir()):
            model = onnx.load(folder / "model.onnx")
            recorded = folder / "test_data_set_0"
            inputs = [_tensor(recorded / f"input_{i}.pb") for i in range(len(list(recorded.glob("input_*"))))]
            outputs = [_tensor(recorded / f"output_{i}.pb") for i in range(len(list(recorded.glob("output_*"))))]
            weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
            yield _case(folder.name.removeprefix("test_"), model, inputs + weights, outputs)


def _tensor(path: Path) -> Array:
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _case(name: str, model: Any, inputs: list[Any], outputs: list[Any]) -> Case:
    nodes = model.graph.node
    if [n.op_type for n in nodes[:1]] == ["Unsqueeze"] and [n.op_type for n in nodes[2:]] == ["Squeeze"]:
        # One-dimensional pooling, recorded as two-dimensional pooling of height x 1.
        inputs, outputs = [inputs[0][..., None]], [outputs[0][..., None]]
        nodes = nodes[1:2]
    operator = nodes[0].op_type if len(nodes) == 1 else "+".join(n.op_type for n in nodes)
    attributes = {a.name: helper.get_attribute_value(a) for a in nodes[0].attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    return Case(name, operator, attributes, inputs, outputs)


def _padding(attributes: dict[str, Any], sizes: tuple[int, ...], extents: list[int]) -> Any:
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic == "SAME_UPPER":
        return "same"
    if automatic == "SAME_LOWER":  # not one of our words: the odd element before
        strides = attributes.get("strides", [1] * len(sizes))
        totals = [
            max((-(-size // step) - 1) * step + extent - size, 0)
            for size, step, extent in zip(sizes, strides, extents, strict=True)
        ]
        return tuple((total - total // 2, total // 2) for total in totals)
    pads = attributes.get("pads", [0] * 2 * len(sizes))
    return tuple(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))


def _conv_options(attributes: dict[str, Any], sizes: tuple[int, ...], kernel: tuple[int, ...]) -> dict[str, Any]:
    ones = [1] * len(sizes)
    dilations = attributes.get("dilations", ones)
    extents = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    return {
        "stride": attributes.get("strides", ones),
        "dilation": dilations,
        "groups": attributes.get("group", 1),
        "padding": _padding(attributes, sizes, extents),
    }


def _pool_options(attributes: dict[str, Any], sizes: tuple[int, ...]) -> dict[str, Any]:
    window = attributes["kernel_shape"]
    if set(attributes.get("dilations", [1])) != {1}:
        raise Unsupported("dilated pooling")
    return {
        "window": window,
        "stride": attributes.get("strides", [1] * len(window)),
        "padding": _padding(attributes, sizes, window),
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
    }


def _Conv(case: Case, x: Array, weight: Array, bias: Array | None = None, **attributes: Any) -> list[Array]:
    return [kernels.conv_forward(x, weight, bias, **_conv_options(attributes, x.shape[2:], weight.shape[2:]))]


def _ConvTranspose(case: Case, y: Array, weight: Array, bias: Array | None = None, **attributes: Any) -> list[Array]:
    """The input gradient; the output shape or padding that ONNX is told is the input shape that we are told."""
    shape = case.outputs[0].shape
    options = _conv_options(attributes, shape[2:], weight.shape[2:])
    x = kernels.conv_input_gradient(y, weight, shape, **options)
    return [x if bias is None else x + bias.reshape(-1, *(1,) * (y.ndim - 2))]


def _MaxPool(case: Case, x: Array, **attributes: Any) -> list[Array]:
    y, argmax = kernels.max_pool_forward(x, **_pool_options(attributes, x.shape[2:]))
    if attributes.get("storage_order", 0):
        return [y]  # its indices are column-major
    # ONNX counts through the whole array, we within one image and channel's plane.
    planes = np.arange(y.shape[0] * y.shape[1]).reshape(*y.shape[:2], *(1,) * (y.ndim - 2))
    return [y, argmax + planes * np.prod(x.shape[2:], dtype=int)]


def _MaxUnpool(case: Case, y: Array, indices: Array, shape: Array | None = None, **attributes: Any) -> list[Array]:
    """The backward pass of max pooling, for one image of one channel."""
    if shape is not None:
        raise Unsupported("indices into a plane that is not the output's")
    return [kernels.max_pool_backward(y, indices, case.outputs[0].shape)]


def _AveragePool(case: Case, x: Array, **attributes: Any) -> list[Array]:
    count_include_pad = bool(attributes.get("count_include_pad", 0))
    return [kernels.avg_pool_forward(x, **_pool_options(attributes, x.shape[2:]), count_include_pad=count_include_pad)]


def _GlobalAveragePool(case: Case, x: Array) -> list[Array]:
    return [kernels.avg_pool_forward(x, x.shape[2:])]


def _GlobalMaxPool(case: Case, x: Array) -> list[Array]:
    return [kernels.max_pool_forward(x, x.shape[2:])[0]]


def _BatchNormalization(
    case: Case, x: Array, weight: Array, bias: Array, mean: Array, var: Array, **attributes: Any
) -> list[Array]:
    training = bool(attributes.get("training_mode", 0))
    running = mean.copy(), var.copy()
    # ONNX keeps what we replace: its momentum is one minus ours.
    options = {"momentum": 1 - attributes.get("momentum", 0.9), "eps": attributes.get("epsilon", 1e-5)}
    y, _ = kernels.batch_norm_forward(x, weight, bias, *running, training=training, **options)
    # Not the running variance: ONNX moves it by the biased one, PyTorch and we by the unbiased one.
    return [y, running[0]] if training else [y]


def _Relu(case: Case, x: Array) -> list[Array]:
    return [kernels.relu_forward(x)]


def _LeakyRelu(case: Case, x: Array, alpha: float = 0.01) -> list[Array]:
    return [kernels.leaky_relu_forward(x, alpha)]


def _Sigmoid(case: Case, x: Array) -> list[Array]:
    return [kernels.sigmoid_forward(x)]


def _Tanh(case: Case, x: Array) -> list[Array]:
    return [kernels.tanh_forward(x)]


def _SoftmaxCrossEntropyLoss(
    case: Case, scores: Array, labels: Array, weights: Array | None = None, **attributes: Any
) -> list[Array]:
    if weights is not None or "ignore_index" in attributes:
        raise Unsupported("weighted or ignored classes")
    if scores.ndim != 2:
        raise Unsupported("a loss for every pixel")
    return [kernels.softmax_cross_entropy(scores, labels, reduction=attributes["reduction"])[0]]


def _Momentum(case: Case, rate: Array, step: Array, *arrays: Array, **attributes: Any) -> list[Array]:
    if step and attributes["beta"] != 1:
        raise Unsupported("dampening")
    count = len(arrays) // 3
    values, gradients, velocities = (np.concatenate(arrays[i * count : (i + 1) * count]) for i in range(3))
    kernels.sgd_update(
        values,
        gradients,
        velocities,
        lr=float(rate),
        momentum=attributes["alpha"],
        nesterov=attributes["mode"] == "nesterov",
        weight_decay=attributes["norm_coefficient"],
    )
    sizes = np.cumsum([a.size for a in arrays[:count]])[:-1]
    return [*np.split(values, sizes), *np.split(velocities, sizes)]
