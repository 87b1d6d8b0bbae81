"""Convolutions in less than float32 on a GPU: near the reference with its rounding, and not far from float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, on_device, uniform

import cnn
from cnn import kernels
from cnn.data import Batches, Dataset
from cnn.kernels.suites import SUITES
from cnn.runs.feed import Resident
from cnn.runs.forward import Forward

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import tensor

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, Any]

# Of results against float64: what a number of a precision is off by, once for each factor.
EXACT = {"tf32": 1e-3, "bf16": 1e-2}

# Against the rounding reference: what sums are off by of products that are exact. Tensor cores add four at a time or
# more, and do not round a sum but cut it off (Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ CS 7:e330),
# each time by up to 2**-23 of it and always towards zero. The longest sums here are those of 64 channels and 9 taps.
SUMS = 64 * 9 / 4 * 2**-23

# Tiles of 64 filters, and on the way back of 32. The others are emulated in tests/ptxsim.
LAYER = SUITES["cifar-cnn"].convolutions[2]


@pytest.fixture(autouse=True)
def _default_afterwards() -> Iterator[None]:
    yield
    cnn.set_precision("float32")


def relative_error(actual: Array, expected: Array) -> float:
    """In the Frobenius norm."""
    expected = expected.astype(np.float64)
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def rounded_reference(name: str, given: dict[str, Any], updated: tuple[str, ...] = ()) -> list[Array]:
    """float32 arrays stay what they are: the reference rounds them as factors."""
    given = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in given.items()}
    with kernels.backend("reference"):
        result = getattr(kernels, name)(**given)
    results = result if isinstance(result, tuple) else (result,)
    return [*(array for array in results if array is not None), *(given[key] for key in updated)]


def check_near(name: str, precision: str, given: dict[str, Any], *updated: str) -> list[Array]:
    """Numbers near those of the rounding reference, and within the precision of those in float64; integers equal."""
    given = {**given, "precision": precision}
    actual = on_device(name, given, updated)
    near, exact = rounded_reference(name, given, updated), in_reference(name, given, updated)
    for ours, expected, double in zip(actual, near, exact, strict=True):
        if ours.dtype.kind == "f":
            assert relative_error(ours, expected) < SUMS
            assert relative_error(ours, double) < EXACT[precision]
    # Rounding can be seen in the first result, and in that of no smaller error than sums have.
    assert relative_error(actual[0], exact[0]) > SUMS
    return actual


@pytest.mark.parametrize("precision", EXACT)
def test_a_layer_of_the_cifar_network(precision: str) -> None:
    x, weight = uniform(1, *LAYER.x), uniform(*LAYER.weight, seed=1)
    given = {"weight": weight, "padding": LAYER.padding}
    (y,) = check_near("conv_forward", precision, {**given, "x": x, "bias": uniform(len(weight)), "activation": "relu"})
    g = uniform(*y.shape, seed=2)
    check_near("conv_input_gradient", precision, {**given, "grad_output": g, "input_shape": x.shape})
    del given["weight"]
    given |= {"x": x, "grad_output": g, "weight_shape": weight.shape}
    for deterministic in (False, True):
        more = {"deterministic": deterministic, "grad_bias": np.full(len(weight), np.nan, np.float32)}
        check_near("conv_kernel_gradient", precision, {**given, **more}, "grad_bias")


@pytest.mark.parametrize(("precision", "window"), [("tf32", 2), ("bf16", None), ("bf16", 3)])
def test_blocks(precision: str, window: int | None) -> None:
    x, weight = np.maximum(uniform(2, 32, 12, 18), 0), uniform(64, 32, 3, 3, seed=1)
    options = {"padding": 1, "activation": "relu", "window": window}
    given = {"x": x, "weight": weight, "bias": uniform(64, seed=2), **options}
    check_near("conv_block_forward", precision, given)
    y, *argmax = rounded_reference("conv_block_forward", {**given, "precision": precision})
    back = {"x": x, "weight": weight, "y": y, "argmax": argmax[0] if argmax else None, **options}
    back |= {"grad_output": uniform(*y.shape, seed=3), "input_activation": "relu"}
    for deterministic in (False, True):
        fresh = {"grad_weight": np.full(weight.shape, np.nan, np.float32), "grad_bias": np.full(64, np.nan, np.float32)}
        given = {**back, **fresh, "deterministic": deterministic, "needs_input_gradient": True}
        check_near("conv_block_backward", precision, given, *fresh)


# name: (precision, x, weight, options)
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "odd sizes": ("tf32", (3, 35, 9, 13), (33, 35, 3, 2), {"padding": ((2, 1), (0, 1))}),
    "groups": ("bf16", (2, 64, 7, 7), (64, 32, 3, 3), {"padding": 1, "groups": 2}),
    "true convolution in one dimension": ("tf32", (3, 32, 20), (32, 32, 3), {"padding": 1, "mode": "convolution"}),
    "strides beyond the kernel": ("tf32", (2, 32, 8, 8), (64, 32, 1, 1), {"stride": 2}),
    "no images": ("bf16", (0, 32, 8, 8), (32, 32, 3, 3), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_small_integers_are_exact(case: str) -> None:
    precision, x_shape, weight_shape, options = CASES[case]
    options = {**options, "precision": precision}
    x, weight, bias = integers(*x_shape), integers(*weight_shape, seed=1), integers(weight_shape[0], seed=2)
    (y,) = check_parity("conv_forward", {"x": x, "weight": weight, "bias": bias, **options})
    given = {"grad_output": integers(*y.shape, seed=3), **options}
    check_parity("conv_input_gradient", {"weight": weight, "input_shape": x.shape, **given})
    check_parity(
        "conv_kernel_gradient", {"x": x, "weight_shape": weight.shape, "grad_bias": bias, **given}, "grad_bias"
    )


def passes(precision: str, filters: int, channels: int) -> list[Array]:
    x, weight, g = uniform(2, channels, 9, 9), uniform(filters, channels, 3, 3, seed=1), uniform(2, filters, 7, 7)
    calls: dict[str, dict[str, Any]] = {
        "conv_forward": {"x": x, "weight": weight},
        "conv_input_gradient": {"grad_output": g, "weight": weight, "input_shape": x.shape},
        "conv_kernel_gradient": {"x": x, "grad_output": g, "weight_shape": weight.shape, "deterministic": True},
    }
    return [on_device(name, {**given, "precision": precision})[0] for name, given in calls.items()]


@pytest.mark.parametrize("precision", EXACT)
def test_thin_layers_are_computed_in_float32(precision: str) -> None:
    for ours, wanted in zip(passes(precision, 20, 8), passes("float32", 20, 8), strict=True):
        assert_array_equal(ours, wanted)


@pytest.mark.parametrize("precision", EXACT)
def test_a_gpu_without_such_tensor_cores_computes_in_float32(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    plain, ours = passes("float32", 32, 32), passes(precision, 32, 32)
    assert not any(np.array_equal(*pair) for pair in zip(ours, plain, strict=True))
    monkeypatch.setattr(tensor, "compute_capability", lambda: 75)
    for ours, wanted in zip(passes(precision, 32, 32), plain, strict=True):
        assert_array_equal(ours, wanted)


@pytest.mark.parametrize("precision", EXACT)
def test_deterministic_twice_the_same_bits(precision: str) -> None:
    given = {"x": uniform(9, 32, 12, 12), "grad_output": uniform(9, 32, 10, 10, seed=1), "weight_shape": (32, 32, 3, 3)}
    given |= {"deterministic": True, "precision": precision}
    first, second = (on_device("conv_kernel_gradient", given)[0] for _ in range(2))
    assert_array_equal(first, second)


# -------------------------------------------------------------------------------------------------------- layers


def network() -> cnn.Sequential:
    cnn.manual_seed(4)
    return cnn.Sequential(
        cnn.Conv2d(3, 32, 3, padding=1), cnn.ReLU(),
        cnn.Conv2d(32, 32, 3, padding=1), cnn.ReLU(), cnn.MaxPool2d(2),
        cnn.Flatten(), cnn.Linear(512, 10),
    ).to("cuda")  # fmt: skip


def batches(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4 * count, 3, 8, 8), dtype=np.uint8)
    dataset = Dataset(images, rng.integers(0, 10, 4 * count), tuple("abcdefghij"))
    return list(Resident(Batches(dataset, 4), "cuda").epoch(0))


SWITCHES = ["float32"] * 3 + ["tf32"] * 4 + ["bf16"] * 3 + ["tf32"] * 2


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_switch_counts_from_the_next_step(cupy: Any, everywhere: bool) -> None:
    losses, states = {}, {}
    for graph in (True, False):
        model = network()
        optimizer = cnn.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer, deterministic=True, graph=graph)
        for precision, batch in zip(SWITCHES, batches(len(SWITCHES)), strict=True):
            if everywhere:
                cnn.set_precision(precision)
            else:
                model.set_precision(precision)
            step.run(batch)
        losses[graph], states[graph] = step.losses(len(SWITCHES)).get(), model.state_dict()
    assert_array_equal(losses[True], losses[False])
    for name, array in states[False].items():
        assert_array_equal(states[True][name], array, err_msg=name)


def test_layers_have_precisions_of_their_own() -> None:
    model = network()
    x = uniform(2, 3, 8, 8)

    def outputs() -> Array:
        import cupy

        return np.asarray(model.eval()(cupy.asarray(x)).get())

    plain = outputs()
    model[2].precision = "bf16"
    one = outputs()
    assert not np.array_equal(one, plain)
    model[2].precision = None
    cnn.set_precision("bf16")
    assert_array_equal(outputs(), one)  # the first layer is too thin for tensor cores
    model.set_precision("float32")
    assert_array_equal(outputs(), plain)


def test_recorded_evaluation_follows_a_switch() -> None:
    model = network().eval()
    (batch,) = batches(1)
    found: dict[str, list[Array]] = {}
    for graph in (True, False):
        forward = Forward(model, graph=graph)
        for precision in ("float32", "tf32"):
            model.set_precision(precision)
            found.setdefault(precision, []).extend(forward(batch).get() for _ in range(3))
    for outputs in found.values():
        for output in outputs[1:]:
            assert_array_equal(output, outputs[0])
    assert not np.array_equal(found["float32"][0], found["tf32"][0])
