"""Schedules: rate and momentum of every step against `torch.optim.lr_scheduler`, and state that comes back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import WHY_TORCH

import cnn

# Name, options, number of steps.
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("StepLR", {"step_size": 3}, 10),
    ("StepLR", {"step_size": 1, "gamma": 0.7}, 10),
    ("CosineAnnealingLR", {"T_max": 7}, 18),
    ("CosineAnnealingLR", {"T_max": 4, "eta_min": 0.01}, 9),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20}, 20),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 17, "anneal_strategy": "linear"}, 17),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 23, "pct_start": 0.41, "cycle_momentum": False}, 23),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31, "three_phase": True}, 31),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 9, "pct_start": 0.05, "div_factor": 4, "final_div_factor": 10}, 9),
    (
        "OneCycleLR",
        {
            "max_lr": 2.0,
            "total_steps": 25,
            "three_phase": True,
            "pct_start": 0.2,
            "anneal_strategy": "linear",
            "base_momentum": 0.5,
            "max_momentum": 0.9,
        },
        25,
    ),
]
IDS = [f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" for name, options, _ in CASES]

OPTIMISERS: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.2, "momentum": 0.7}, "Adam": {"lr": 0.2}, "AdamW": {"lr": 0.2}}


def make_optimizer(name: str) -> cnn.SGD | cnn.Adam:
    optimizer: cnn.SGD | cnn.Adam = getattr(cnn, name)([cnn.Parameter(np.zeros(1))], **OPTIMISERS[name])
    return optimizer


def momentum_of(optimizer: cnn.SGD | cnn.Adam) -> float:
    return optimizer.momentum if isinstance(optimizer, cnn.SGD) else optimizer.betas[0]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(("name", "options", "steps"), CASES, ids=IDS)
def test_every_step_agrees_with_torch(name: str, options: dict[str, Any], steps: int, optimiser: str) -> None:
    torch = pytest.importorskip("torch", reason=WHY_TORCH)
    optimizer = make_optimizer(optimiser)
    peer = getattr(torch.optim, optimiser)([torch.zeros(1, requires_grad=True)], **OPTIMISERS[optimiser])
    schedule = getattr(cnn, name)(optimizer, **options)
    schedule_peer = getattr(torch.optim.lr_scheduler, name)(peer, **options)
    group = peer.param_groups[0]
    for step in range(steps):
        # Cosines in another order of operations: a few roundings of the largest rate.
        assert optimizer.lr == pytest.approx(group["lr"], rel=1e-12, abs=1e-15), step
        expected = group["momentum"] if optimiser == "SGD" else group["betas"][0]
        assert momentum_of(optimizer) == pytest.approx(expected, rel=1e-12), step
        if step < steps - 1:
            with warnings.catch_warnings():
                # PyTorch warns of a schedule that moves on without optimizer.step().
                warnings.simplefilter("ignore")
                schedule_peer.step()
            schedule.step()


def test_values_by_hand() -> None:
    optimizer = make_optimizer("SGD")
    schedule = cnn.OneCycleLR(optimizer, max_lr=1.0, total_steps=11, pct_start=6 / 11, anneal_strategy="linear")
    rates, momenta = [], []
    for _ in range(11):
        rates.append(optimizer.lr)
        momenta.append(momentum_of(optimizer))
        schedule.step()
    # Up from 1/25 in steps 0 to 5, down to 1/25/10^4 in steps 5 to 10.
    np.testing.assert_allclose(rates[:6], np.linspace(0.04, 1, 6), rtol=1e-12)
    np.testing.assert_allclose(rates[5:], np.linspace(1, 4e-6, 6), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(momenta, [0.95, 0.93, 0.91, 0.89, 0.87, 0.85, 0.87, 0.89, 0.91, 0.93, 0.95], rtol=1e-12)
    # The step after the last update changes nothing any more, and then the cycle is over.
    assert optimizer.lr == rates[-1]
    with pytest.raises(ValueError, match="OneCycleLR: step 12 of a cycle of 11"):
        schedule.step()
    assert optimizer.lr == rates[-1]


@pytest.mark.parametrize(("name", "options", "steps"), CASES, ids=IDS)
def test_state_continues(name: str, options: dict[str, Any], steps: int) -> None:
    optimizer, resumed = make_optimizer("SGD"), make_optimizer("SGD")
    schedule = getattr(cnn, name)(optimizer, **options)
    for _ in range(steps // 2):
        schedule.step()
    other = getattr(cnn, name)(resumed, **options)
    other.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    for _ in range(steps // 2, steps):
        schedule.step()
        other.step()
        assert (resumed.lr, resumed.momentum) == (optimizer.lr, optimizer.momentum)  # type: ignore[union-attr]


def test_a_state_of_another_schedule_is_refused() -> None:
    schedule = cnn.StepLR(make_optimizer("SGD"), 3)
    state = cnn.CosineAnnealingLR(make_optimizer("SGD"), 3).state_dict()
    with pytest.raises(ValueError, match=r"StepLR.load_state_dict: expected .*'gamma'.* got .*'T_max'"):
        schedule.load_state_dict(state)
    assert "T_max" not in schedule.state_dict()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: cnn.StepLR(o, 0), "StepLR: step_size must be at least 1, got 0"),
        (lambda o: cnn.CosineAnnealingLR(o, 0), "CosineAnnealingLR: T_max must be at least 1, got 0"),
        (lambda o: cnn.OneCycleLR(o, 0.1, 0), "OneCycleLR: total_steps must be at least 1, got 0"),
        (lambda o: cnn.OneCycleLR(o, 0.1, 5, pct_start=1.5), r"pct_start must lie in 0\.\.1, got 1.5"),
        (lambda o: cnn.OneCycleLR(o, 0.1, 5, anneal_strategy="exp"), "anneal_strategy must be .* got 'exp'"),
    ],
)
def test_wrong_arguments(make: Callable[[Any], Any], message: str) -> None:
    optimizer = make_optimizer("SGD")
    with pytest.raises(ValueError, match=message):
        make(optimizer)
    assert optimizer.lr == 0.2
