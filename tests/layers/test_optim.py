"""Optimisers: 20 steps against `torch.optim` with every option, the flat buffer, state that comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import WHY_TORCH, uniform

import cnn

SHAPES = ((3, 2, 2), (5,), (1,), (4, 17))

# Name, options. torch.optim has the same names for both.
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {}),
    ("Adam", {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
]
IDS = [f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" for name, options in OPTIONS]


def make_parameters(dtype: str = "float32") -> list[cnn.Parameter]:
    return [cnn.Parameter(uniform(seed, *shape, dtype=dtype)) for seed, shape in enumerate(SHAPES)]


def make_optimizer(name: str, parameters: list[cnn.Parameter], options: dict[str, Any]) -> cnn.Optimizer:
    optimizer: cnn.Optimizer = getattr(cnn, name)(parameters, **options)
    return optimizer


def set_gradients(parameters: list[cnn.Parameter], step: int) -> None:
    for index, p in enumerate(parameters):
        p.grad = uniform(100 * step + index, *p.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_twenty_steps_agree_with_torch(name: str, options: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch", reason=WHY_TORCH)
    parameters = make_parameters(dtype)
    peers = [torch.from_numpy(p.data.copy()).requires_grad_() for p in parameters]
    optimizer, peer = make_optimizer(name, parameters, options), getattr(torch.optim, name)(peers, **options)
    for step in range(20):
        set_gradients(parameters, step)
        for p, q in zip(parameters, peers, strict=True):
            q.grad = torch.from_numpy(p.grad.copy())
        if step == 10:  # what a schedule does
            optimizer.lr /= 2
            peer.param_groups[0]["lr"] /= 2
        optimizer.step()
        peer.step()
        # Each step rounds a handful of times, and moves a value by at most about 1.
        allowed = 8 * (step + 1) * np.finfo(dtype).eps
        for p, q in zip(parameters, peers, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=allowed, atol=allowed)


def test_parameters_become_views_of_one_buffer() -> None:
    parameters = make_parameters()
    values = [p.data.copy() for p in parameters]
    for p in parameters:
        p.grad = p.data * 2
    cnn.SGD(parameters, lr=0.1)
    owner = parameters[0].data.base
    for p, value in zip(parameters, values, strict=True):
        assert p.data.base is owner
        assert p.grad.base is parameters[0].grad.base
        np.testing.assert_array_equal(p.data, value)
        np.testing.assert_array_equal(p.grad, value * 2)
        assert (p.data.ctypes.data - owner.ctypes.data) % 64 == 0


def test_two_optimisers_for_the_same_parameters_share_the_buffer() -> None:
    parameters = make_parameters()
    first = cnn.SGD(parameters, lr=1.0)
    data = parameters[0].data
    second = cnn.SGD(iter(parameters), lr=1.0)
    assert parameters[0].data is data
    before = data.copy()
    for p in parameters:
        p.grad[...] = 0.25
    first.step()
    second.step()
    np.testing.assert_array_equal(data, (before - np.float32(0.25)) - np.float32(0.25))


def test_an_optimiser_for_some_of_the_parameters_takes_them_away() -> None:
    parameters = make_parameters()
    first = cnn.SGD(parameters, lr=1.0)
    second = cnn.SGD(parameters[:2], lr=1.0)
    before = [p.data.copy() for p in parameters]
    set_gradients(parameters, 0)
    with pytest.raises(RuntimeError, match="SGD: the parameters have moved since this optimiser was made"):
        first.step()
    for p, value in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(p.data, value)
    second.step()
    assert (parameters[0].data != before[0]).all()
    np.testing.assert_array_equal(parameters[2].data, before[2])


@pytest.mark.parametrize("move", [cnn.Layer.double, lambda model: model.double().float()])
def test_a_converted_model_needs_a_new_optimiser(move: Callable[[cnn.Layer], Any]) -> None:
    model = cnn.Linear(2, 2)
    optimizer = cnn.Adam(model.parameters())
    move(model)
    with pytest.raises(RuntimeError, match="Adam: the parameters have moved"):
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_state_continues_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    straight = make_parameters()
    optimizer = make_optimizer(name, straight, options)
    for step in range(3):
        set_gradients(straight, step)
        optimizer.step()
    optimizer.lr = 0.017
    state = optimizer.state_dict()
    values = [p.data.copy() for p in straight]
    for step in range(3, 6):
        set_gradients(straight, step)
        optimizer.step()

    resumed = make_parameters()
    # Other options, to see that the state brings its own.
    other = make_optimizer(name, resumed, {**options, "lr": 7.0, "weight_decay": 0.5})
    other.load_state_dict({"arrays": state["arrays"], "scalars": json.loads(json.dumps(state["scalars"]))})
    for p, value in zip(resumed, values, strict=True):
        p.data = value
    for step in range(3, 6):
        set_gradients(resumed, step)
        other.step()
    for p, q in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_state_has_the_shapes_of_the_parameters() -> None:
    state = cnn.Adam(make_parameters()).state_dict()
    assert {name: array.shape for name, array in state["arrays"].items()} == {
        f"{kind}.{index}": shape for kind in ("mean", "square") for index, shape in enumerate(SHAPES)
    }
    assert state["scalars"] == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "steps": 0}


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("arrays", {"velocity.1": None}, "velocity.1 is missing"),
        ("arrays", {"mean.0": np.zeros(3)}, "mean.0 is unexpected"),
        ("arrays", {"velocity.1": np.ones((2, 5), np.float32)}, r"velocity.1 must be float32 \(5,\), got float32"),
        ("arrays", {"velocity.1": np.ones(5)}, r"velocity.1 must be float32 \(5,\), got float64"),
        ("scalars", {"momentum": None}, "momentum is missing"),
        ("scalars", {"steps": 3}, "steps is unexpected"),
        ("scalars", {"lr": -1.0}, "lr must be at least 0, got -1.0"),
    ],
)
def test_load_refuses_and_writes_nothing(part: str, change: dict[str, Any], message: str) -> None:
    optimizer = cnn.SGD(make_parameters(), lr=0.1, momentum=0.9)
    state = optimizer.state_dict()
    given = {
        "arrays": {name: array + 1 for name, array in state["arrays"].items()},
        "scalars": {**state["scalars"], "lr": 0.2},
    }
    given[part] = {name: value for name, value in {**given[part], **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(given)
    assert optimizer.state_dict()["scalars"] == state["scalars"]
    assert not any(array.any() for array in optimizer.state_dict()["arrays"].values())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: cnn.SGD(p, lr=-0.1), ValueError, "SGD: lr must be at least 0, got -0.1"),
        (lambda p: cnn.SGD(p, lr=float("nan")), ValueError, "SGD: lr must be at least 0, got nan"),
        (lambda p: cnn.SGD(p, lr=0.1, momentum=-1), ValueError, "momentum must be at least 0, got -1"),
        (lambda p: cnn.SGD(p, lr=0.1, nesterov=True), ValueError, "nesterov needs a momentum above 0, got 0"),
        (
            lambda p: cnn.Adam(p, betas=(0.9, 1.0)),
            ValueError,
            r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)",
        ),
        (lambda p: cnn.AdamW(p, eps=-1), ValueError, "AdamW: eps must be at least 0, got -1"),
        (lambda p: cnn.SGD([], lr=0.1), ValueError, "there are no parameters"),
        (lambda p: cnn.SGD([p[0], p[1], p[0]], lr=0.1), ValueError, "the same parameter is listed twice"),
        (lambda p: cnn.SGD([p[0].data], lr=0.1), TypeError, "expected parameters, as model.parameters"),
        (
            lambda p: cnn.SGD([p[0], cnn.Parameter(np.zeros(2))], lr=0.1),
            ValueError,
            "one dtype and one device, got float32 on cpu, float64 on cpu",
        ),
    ],
)
def test_wrong_arguments(make: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(make_parameters())
