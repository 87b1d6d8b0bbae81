"""One valid call of every public function: what tests of bad calls, odd layouts and repeated runs start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnn import kernels

Array = np.ndarray[Any, Any]
Arguments = dict[str, Any]

# 17 images: one more than a vector of 16 holds. MANY: enough for several threads in every operation.
FEW, MANY = 17, 400
FILTERS = (6, 2, 3, 3)
CONV: Arguments = {"stride": 2, "padding": ((1, 1), (2, 1)), "groups": 2, "mode": "convolution"}
POOL: Arguments = {"window": 3, "stride": 2, "padding": 1}
BLOCK: Arguments = {"activation": "tanh", "window": 2}
CLASSES = 10
PLANE = 7 * 6


def _uniform(rng: np.random.Generator, dtype: Any) -> Callable[..., Array]:
    return lambda *shape: rng.uniform(-1, 1, shape).astype(dtype)


def arguments(name: str, dtype: Any = np.float32, *, seed: int = 0, images: int = FEW) -> Arguments:
    """Fresh arguments, by name, of a valid call of the public function `name`; reals are drawn from [-1, 1]."""
    input_, output, pooled = (images, 4, 7, 6), (images, 6, 4, 4), (images, 4, 4, 3)
    weights = 200 * images + 1
    rng = np.random.default_rng(seed)
    real = _uniform(rng, dtype)
    if name.endswith(("relu_forward", "sigmoid_forward", "tanh_forward")):
        return {"x": real(*input_)}
    if name.endswith(("relu_backward", "sigmoid_backward", "tanh_backward")):
        return {"grad_output": real(*input_), "y": real(*input_)}
    if name in ("softmax_cross_entropy", "hinge"):
        scores = "logits" if name == "softmax_cross_entropy" else "scores"
        return {scores: real(images, CLASSES), "labels": rng.integers(0, CLASSES, images)}
    match name:
        case "conv_forward":
            return {"x": real(*input_), "weight": real(*FILTERS), "bias": real(6), **CONV}
        case "conv_kernel_gradient":
            grads = {"grad_output": real(*output), "grad_bias": real(6)}
            return {"x": real(*input_), **grads, "weight_shape": FILTERS, **CONV}
        case "conv_input_gradient":
            return {"grad_output": real(*output), "weight": real(*FILTERS), "input_shape": input_, **CONV}
        case "conv_bias_gradient":
            return {"grad_output": real(*output)}
        case "max_pool_forward" | "avg_pool_forward":
            return {"x": real(*input_), **POOL}
        case "max_pool_backward":
            argmax = rng.integers(0, PLANE, pooled, dtype=np.int32)
            return {"grad_output": real(*pooled), "argmax": argmax, "input_shape": input_}
        case "avg_pool_backward":
            return {"grad_output": real(*pooled), "input_shape": input_, **POOL}
        case "conv_block_forward":
            return {"x": real(*input_), "weight": real(*FILTERS), "bias": real(6), **CONV, **BLOCK}
        case "conv_block_backward":
            block_output = (images, 6, 2, 2)
            grads = {"grad_output": real(*block_output), "grad_weight": real(*FILTERS), "grad_bias": real(6)}
            argmax = {"argmax": rng.integers(0, 4 * 4, block_output, dtype=np.int32)}
            given = {"x": real(*input_), "weight": real(*FILTERS), **grads, "y": real(*block_output), **argmax}
            return {**given, **CONV, **BLOCK, "input_activation": "sigmoid", "grad_around": real(*input_)}
        case "linear_forward":
            given = {"x": real(images, 7), "weight": real(CLASSES, 7), "bias": real(CLASSES)}
            return {**given, "activation": "tanh"}
        case "linear_backward":
            grads = {"grad_weight": real(CLASSES, 7), "grad_bias": real(CLASSES)}
            given = {"x": real(images, 7), "weight": real(CLASSES, 7), "grad_output": real(images, CLASSES), **grads}
            return {**given, "activation": "tanh", "y": real(images, CLASSES), "input_activation": "sigmoid"}
        case "dropout":
            return {"x": real(*input_), "p": 0.3, "state": rng.integers(0, 2**63, 2, dtype=np.uint64), "call": 5}
        case "count_correct":
            return {"scores": real(images, CLASSES), "labels": rng.integers(0, CLASSES, images)}
        case "gather_batch":
            stored = rng.integers(0, 256, (5, 3, 7, 6), dtype=np.uint8)
            normalize = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
            return {"images": stored, "indices": rng.integers(0, 5, images), **normalize}
        case "gather_next":
            stored = {"images": rng.integers(0, 256, (5, 3, 7, 6), dtype=np.uint8), "labels": rng.integers(0, 9, 5)}
            order = {"order": rng.integers(0, 5, images + 4), "position": np.array([3], np.int32), "size": images}
            return {**stored, **order, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
        case "record":
            return {"value": real(1), "history": real(5), "counts": np.array([7, 9], np.int32), "images": 3}
        case "mean_squared_error":
            return {"y": real(*input_), "target": real(*input_)}
        case "batch_norm_forward":
            running = {"running_mean": real(4), "running_var": real(4) + dtype(1.5)}
            given = {"x": real(*input_), "weight": real(4), "bias": real(4), **running, "training": True}
            return {**given, "activation": "relu", "around": real(*input_)}
        case "batch_norm_backward":
            given = {"grad_output": real(*input_), "x": real(*input_), "weight": real(4), "saved": real(2, 4)}
            return {**given, "activation": "relu", "y": real(*input_)}
        case "residual_forward":
            return {"body": real(*input_), "around": real(*input_), "activation": "relu"}
        case "residual_backward":
            given = {"grad_body": real(*input_), "grad_around": real(*input_)}
            return {**given, "input_activation": "relu", "x": real(*input_)}
        case "sgd_update":
            state = {"velocity": real(weights)}
            options = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
            return {"value": real(weights), "gradient": real(weights), **state, **options}
        case "adam_update":
            state = {"mean": real(weights), "square": real(weights) ** 2}
            options = {"step": 3, "lr": 0.01, "weight_decay": 0.01, "decoupled": True}
            return {"value": real(weights), "gradient": real(weights), **state, **options}
    raise AssertionError(f"no call of {name} is written down here")


NOT_OPERATIONS = {"backend", "BackendError", "ConvGeometry", "DTypeError", "PoolGeometry", "ShapeError"}
OPERATIONS = sorted(set(kernels.__all__) - NOT_OPERATIONS)
WITH_OUT = ("conv_forward", "conv_kernel_gradient", "conv_input_gradient")
UPDATED_IN_PLACE = {
    "conv_block_backward": ("grad_weight", "grad_bias"),
    "linear_backward": ("grad_weight", "grad_bias"),
    "record": ("history", "counts"),
    "conv_kernel_gradient": ("grad_bias",),
    "batch_norm_forward": ("running_mean", "running_var"),
    "sgd_update": ("value", "velocity"),
    "adam_update": ("value", "mean", "square"),
}


def inputs(name: str, given: Arguments) -> dict[str, Array]:
    """The arrays among `given` that the function only reads."""
    written = UPDATED_IN_PLACE.get(name, ())
    return {key: value for key, value in given.items() if isinstance(value, np.ndarray) and key not in written}


def returned(result: Any) -> tuple[Array, ...]:
    """What a public function returned, as a tuple of arrays."""
    if result is None:
        return ()
    results = result if isinstance(result, tuple) else (result,)
    return tuple(array for array in results if array is not None)


def results(name: str, given: Arguments) -> tuple[Array, ...]:
    """All arrays that the call makes or changes."""
    result = returned(getattr(kernels, name)(**given))
    updated = (given[key] for key in UPDATED_IN_PLACE.get(name, ()))
    return (*result, *(array for array in updated if array is not None))
