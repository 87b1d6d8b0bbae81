"""Dense layers on a GPU: the built-in networks', sizes around tiles, every way to cut a reduction, any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, on_device, to_device, to_host, uniform

from cnn import kernels

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import launch as launching
from cnn.kernels.cuda.linear_backward import WARPS, plan_linear_backward
from cnn.kernels.cuda.linear_forward import Tile, plan_linear_forward

pytestmark = pytest.mark.gpu

# Images, channels, filters.
LENET5 = [(64, 400, 120), (64, 120, 84), (64, 84, 10)]
WIDE = [(64, 9216, 128), (128, 4096, 128), (128, 128, 10)]
EDGES = [(0, 3, 2), (1, 1, 1), (3, 0, 5), (7, 127, 9), (8, 128, 8), (9, 129, 7), (33, 1001, 65), (17, 1024, 12)]


def forward(size: tuple[int, int, int], make: Any, **options: Any) -> dict[str, Any]:
    images, channels, filters = size
    return {"x": make(images, channels), "weight": make(filters, channels), "bias": make(filters), **options}


def backward(size: tuple[int, int, int], make: Any, **options: Any) -> dict[str, Any]:
    images, channels, filters = size
    given = {"x": make(images, channels), "weight": make(filters, channels), "grad_output": make(images, filters)}
    nan = {"grad_weight": np.full((filters, channels), np.nan, np.float32), "grad_bias": np.full(filters, np.nan)}
    given.update({name: array.astype(np.float32) for name, array in nan.items()})
    if options.get("activation") is not None:
        given["y"] = make(images, filters, seed=1)
    return {**given, **options}


@pytest.mark.parametrize("size", LENET5 + WIDE + EDGES, ids=str)
def test_integers_exactly(size: tuple[int, int, int]) -> None:
    check_parity("linear_forward", forward(size, integers, activation="relu"))
    options = {"activation": "relu", "input_activation": "relu"}
    check_parity("linear_backward", backward(size, integers, **options), "grad_weight", "grad_bias")


@pytest.mark.parametrize(("size", "activation"), [(LENET5[1], "sigmoid"), ((33, 37, 9), "tanh")], ids=str)
def test_other_activations(size: tuple[int, int, int], activation: str | None) -> None:
    check_parity("linear_forward", forward(size, uniform, activation=activation), length=1024)
    options = {"activation": activation, "input_activation": activation}
    check_parity("linear_backward", backward(size, uniform, **options), "grad_weight", "grad_bias", length=256)


def test_what_is_not_there_is_left_out() -> None:
    given = forward((9, 20, 6), integers)
    check_parity("linear_forward", {**given, "bias": None})
    given = backward((9, 20, 6), integers, needs_input_gradient=False)
    assert len(check_parity("linear_backward", given, "grad_weight", "grad_bias")) == 2
    check_parity("linear_backward", {**given, "grad_bias": None}, "grad_weight")


@pytest.mark.parametrize(("side", "slices"), [(4, 1), (4, 16), (8, 3)])
def test_every_way_to_cut_a_dot_product(side: int, slices: int) -> None:
    x, weight, bias = (to_device(integers(*shape)) for shape in ((11, 500), (13, 500), (13,)))
    y = to_device(np.full((11, 13), np.nan, np.float32))
    plan_linear_forward(11, 500, 13, True, None, tile=Tile(side, slices))(x, weight, bias, y, 11)
    assert_array_equal(to_host(y), to_host(x) @ to_host(weight).T + to_host(bias))


@pytest.mark.parametrize("slices", [1 << n for n in range(WARPS.bit_length())])
def test_every_way_to_cut_a_gradient(slices: int) -> None:
    x, weight, g = (to_device(integers(*shape)) for shape in ((70, 130), (75, 130), (70, 75)))
    shapes = (75, 130), (75,), (70, 130)
    grad_weight, grad_bias, grad_x = (to_device(np.full(shape, np.nan, np.float32)) for shape in shapes)
    launch = plan_linear_backward(70, 130, 75, True, None, None, True, slices=slices)
    launch(x, weight, g, g, grad_weight, grad_bias, grad_x, 70, 1, 1)
    x, weight, g = map(to_host, (x, weight, g))
    assert_array_equal(to_host(grad_weight), g.T @ x)
    assert_array_equal(to_host(grad_bias), g.sum(axis=0))
    assert_array_equal(to_host(grad_x), g @ weight)


@pytest.mark.parametrize("view", [np.s_[1:, 1:], np.s_[::2, ::-1], np.s_[:, 4:]], ids=str)
def test_inputs_in_any_layout(cupy: Any, view: Any) -> None:
    wide = {"x": integers(30, 41), "weight": integers(14, 41), "y": integers(30, 14), "grad_output": integers(30, 14)}
    cut = {name: array[view] for name, array in wide.items()}
    moved = {name: to_device(array)[view] for name, array in wide.items()}
    pair = "x", "weight"
    expected = in_reference("linear_forward", {name: cut[name] for name in pair})
    assert_array_equal(on_device("linear_forward", {name: moved[name] for name in pair}), expected)
    # The weights' gradient at an odd place in a buffer of all gradients.
    filters, channels = cut["grad_output"].shape[1], cut["x"].shape[1]
    cut["weight"], moved["weight"] = cut["weight"][:filters], moved["weight"][:filters]
    if len(cut["weight"]) < filters:
        cut["weight"] = integers(filters, channels)
        moved["weight"] = to_device(cut["weight"])
    flat = cupy.full(1 + filters * channels + filters, np.nan, np.float32)
    grads = {"grad_weight": flat[1 : 1 + filters * channels].reshape(filters, channels), "grad_bias": flat[-filters:]}
    options = {"activation": "relu", "input_activation": "relu"}
    (grad_x,) = on_device("linear_backward", {**moved, **grads, **options})
    host = {name: np.full(array.shape, np.nan, np.float32) for name, array in grads.items()}
    expected = in_reference("linear_backward", {**cut, **host, **options}, ("grad_weight", "grad_bias"))
    for actual, wanted in zip(
        (grad_x, to_host(grads["grad_weight"]), to_host(grads["grad_bias"])), expected, strict=True
    ):
        assert_array_equal(actual, wanted)
    assert np.isnan(to_host(flat)[0])


def test_dropout_behind_a_relu() -> None:
    state = np.array([3, 2**32 - 1], np.uint64)
    for size in (LENET5[1], (33, 37, 9)):
        there = forward(size, integers, activation="relu", dropout=(0.5, to_device(state), 2))
        (y,) = on_device("linear_forward", there)
        (expected,) = in_reference("linear_forward", {**there, "dropout": (0.5, state, 2)})
        assert_array_equal(y, expected)
        options = {"activation": "relu", "dropout": 0.5, "input_activation": "relu", "input_dropout": 0.75}
        given = {**backward(size, integers), "y": y, **options}
        check_parity("linear_backward", given, "grad_weight", "grad_bias")


def test_one_launch_each_way_and_the_same_bits_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    run = launching.launch
    monkeypatch.setattr(launching, "launch", lambda kernel, *rest: names.append(kernel.name) or run(kernel, *rest))
    there, back = forward(LENET5[0], uniform, activation="tanh"), backward(LENET5[0], uniform)
    first, second = (
        [*on_device("linear_forward", there), *on_device("linear_backward", back, ("grad_weight", "grad_bias"))]
        for _ in range(2)
    )
    assert names == ["linear_forward", "linear_backward"] * 2
    for one, other in zip(first, second, strict=True):
        assert one.tobytes() == other.tobytes()


def test_not_a_number_reaches_the_sums_it_is_part_of_and_no_other() -> None:
    given = forward((20, 36, 9), integers)
    given["x"][19, 35] = np.nan
    (y,) = on_device("linear_forward", given)
    assert np.isnan(y[19]).all()
    assert not np.isnan(y[:19]).any()
    given = backward((20, 36, 9), integers)
    given["x"][19, 35], given["weight"][8, 0] = np.nan, np.inf
    with kernels.backend("cuda"):
        grad_x, grad_weight, _ = on_device("linear_backward", given, ("grad_weight", "grad_bias"))
    assert np.isnan(grad_weight[:, 35]).all()
    assert np.isfinite(grad_weight[:, :35]).all()
    assert np.isfinite(grad_x[:, 1:]).all()
