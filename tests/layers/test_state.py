"""State of a model: names and shapes as `torch.nn.Sequential` has them, strict loading, precision, device, copies."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import PEERS, WHY_TORCH, uniform

import cnn


def small() -> cnn.Sequential:
    return cnn.Sequential(
        cnn.Conv2d(1, 2, 3, bias=False), cnn.BatchNorm2d(2), cnn.ReLU(), cnn.Flatten(), cnn.Linear(8, 3)
    )


@pytest.mark.parametrize("name", PEERS)
def test_names_order_shapes_and_dtypes_are_those_of_torch(name: str) -> None:
    pytest.importorskip("torch", reason=WHY_TORCH)
    ours = cnn.models.MODELS[name]().state_dict()
    peer = {key: tensor.numpy() for key, tensor in PEERS[name]().state_dict().items()}
    assert [(key, array.shape, array.dtype) for key, array in ours.items()] == [
        (key, array.shape, array.dtype) for key, array in peer.items()
    ]


def test_state_is_a_copy_and_comes_back() -> None:
    model, other = small(), small()
    state = model.state_dict()
    assert list(state) == [
        "0.weight",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "4.weight",
        "4.bias",
    ]
    model(uniform(0, 5, 1, 4, 4))  # moves the running statistics, not the copy
    assert state["1.num_batches_tracked"] == 0
    assert not state["1.running_mean"].any()
    other.load_state_dict(model.state_dict())
    assert other.state_dict()["1.num_batches_tracked"] == 1
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1.bias": None}, "1.bias is missing"),
        ({"5.weight": np.zeros(3, np.float32)}, "5.weight is unexpected"),
        ({"4.weight": np.zeros((3, 7), np.float32)}, r"4.weight must be float32 \(3, 8\), got float32 \(3, 7\)"),
        ({"4.weight": np.zeros((3, 8))}, r"4.weight must be float32 \(3, 8\), got float64 \(3, 8\)"),
        ({"1.num_batches_tracked": np.zeros(1, np.int64)}, r"int64 \(\), got int64 \(1,\)"),
        ({"1.bias": None, "x": np.zeros(3)}, "1.bias is missing; x is unexpected"),
    ],
)
def test_load_refuses_and_writes_nothing(change: dict[str, Any], message: str) -> None:
    model = small()
    before = model.state_dict()
    # Every value differs, so that a single one written would show.
    given = {name: array + 1 for name, array in before.items()}
    given.update(change)
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({name: array for name, array in given.items() if array is not None})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_keeps_the_arrays_in_place() -> None:
    model = small()
    weight = model.parameters()[0].data
    model.load_state_dict({name: np.ones_like(array) for name, array in model.state_dict().items()})
    assert model.parameters()[0].data is weight
    assert (weight == 1).all()


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda: cnn.Conv2d(4, 64, 3, groups=2), 18),
        (lambda: cnn.Conv1d(5, 64, 3), 15),
        (lambda: cnn.Linear(25, 64), 25),
    ],
)
def test_initial_values_fill_their_bound(make: Callable[[], cnn.Layer], fan_in: int) -> None:
    # kaiming_uniform_(a=sqrt(5)): gain * sqrt(3 / fan_in) with gain = sqrt(2 / (1 + 5)).
    bound = math.sqrt(2 / 6) * math.sqrt(3 / fan_in)
    cnn.manual_seed(0)
    for parameter in make().parameters():
        # 64 draws all miss the outer tenth once in 800 tries, and this seed is not one of those.
        assert 0.9 * bound < abs(parameter.data).max() <= bound * (1 + 1e-6)
        assert parameter.data.min() < 0 < parameter.data.max()


def test_double_and_float_convert_all_but_counters() -> None:
    model = small().double()
    assert {str(array.dtype) for array in model.state_dict().values()} == {"float64", "int64"}
    assert all(p.grad.dtype == np.float64 for p in model.parameters())
    assert model.backward(np.ones_like(model(uniform(0, 2, 1, 4, 4, dtype="float64")))).dtype == np.float64
    model.float()
    assert {str(array.dtype) for array in model.state_dict().values()} == {"float32", "int64"}


def test_conversion_to_what_it_is_changes_nothing() -> None:
    model = small()
    weight = model.parameters()[0].data
    assert model.float().to("cpu").parameters()[0].data is weight


def test_cuda_without_cupy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)  # importing it now raises ImportError
    model = small()
    with pytest.raises(RuntimeError, match=r"numba-cnn\[cu13\].*numba-cnn\[cu12\]"):
        model.to("cuda")
    assert all(isinstance(p.data, np.ndarray) for p in model.parameters())
    with pytest.raises(ValueError, match="'tpu'"):
        model.to("tpu")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_independent_even_of_an_optimisers_buffer(duplicate: Any) -> None:
    model = small()
    cnn.SGD(model.parameters(), lr=0.1)
    twin = duplicate(model)
    optimizer = cnn.SGD(twin.parameters(), lr=1.0)
    before = model.state_dict()
    for p in twin.parameters():
        p.grad[...] = 1
    optimizer.step()
    for name, p in twin.named_parameters():
        np.testing.assert_array_equal(p.data, before[name] - np.float32(1))
        np.testing.assert_array_equal(model.state_dict()[name], before[name])


def test_assigning_to_a_parameter_copies_in_place() -> None:
    p = cnn.Parameter(np.zeros((2, 3), np.float32))
    data = p.data
    p.data = np.ones((2, 3))
    p.data += 1
    assert p.data is data
    assert (data == 2).all()
    with pytest.raises(ValueError, match=r"data must have shape \(2, 3\), got \(3,\)"):
        p.data = np.ones(3)


def test_the_other_wrong_arguments() -> None:
    with pytest.raises(cnn.kernels.ShapeError, match="AdaptiveAvgPool2d: output_size must be 1, got 2"):
        cnn.AdaptiveAvgPool2d(2)
    with pytest.raises(cnn.kernels.ShapeError, match="LeakyReLU: negative_slope must be at least 0, got -1"):
        cnn.LeakyReLU(-1)
    with pytest.raises(ValueError, match=r"Dropout: p must lie in 0\.\.1, got 1\.5"):
        cnn.Dropout(1.5)
