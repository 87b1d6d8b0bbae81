"""The settings of a run: defaults by optimiser, one rule and one message each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnn.runs.config import ConfigError, TrainConfig


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("sgd", (0.1, 0.9, 5e-4)), ("adam", (1e-3, None, 0.0)), ("adamw", (1e-3, None, 1e-2))],
)
def test_rates_left_open_are_those_of_the_optimiser(optimizer: str, expected: tuple[Any, ...]) -> None:
    config = TrainConfig(optimizer=optimizer)
    assert (config.lr, config.momentum, config.weight_decay) == expected


def test_what_is_given_stays() -> None:
    config = TrainConfig(optimizer="adam", lr=0.5, weight_decay=0.25)
    assert (config.lr, config.weight_decay) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs must be a whole number of at least 1, got 0"),
        ({"epochs": True}, "--epochs must be"),
        ({"batch_size": 1.5}, "--batch-size must be"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be"),
        ({"seed": -1}, "--seed must be a whole number of at least 0, got -1"),
        ({"limit": 0}, "--limit must be"),
        ({"lr": 0}, "--lr must be a number above 0, got 0"),
        ({"lr": float("nan")}, "--lr must be"),
        ({"lr": float("inf")}, "--lr must be"),
        ({"momentum": 1.0}, "--momentum must be a number at least 0 and below 1, got 1.0"),
        ({"momentum": 0.9, "optimizer": "adam"}, "--momentum belongs to --optimizer sgd, not to adam"),
        ({"weight_decay": -1}, "--weight-decay must be a number 0 or more, got -1"),
        ({"target_accuracy": 99}, "--target-accuracy must be a number above 0, up to 1, got 99"),
        ({"optimizer": "lion"}, "--optimizer must be one of sgd, adam, adamw, got 'lion'"),
        ({"schedule": "linear"}, "--schedule must be one of"),
        ({"deterministic": 1}, "--deterministic must be true or false, got 1"),
        ({"precision": "fp16"}, "--precision must be one of float32, tf32, bf16, got 'fp16'"),
        ({"device": "tpu"}, "--device must be one of auto, cpu, cuda, got 'tpu'"),
        ({"augment": ("crop", "spin")}, "--augment must be one of crop, flip, shift, got 'spin'"),
        ({"augment": ("crop", "crop")}, "--augment names each kind once"),
        ({"model": ""}, "--model must be a name or a path"),
        ({"data": 3}, "--data must be a name or a path, got 3"),
    ],
)
def test_each_rule_has_its_message(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig(**settings)
    assert message in str(raised.value)


def test_json_keeps_everything() -> None:
    config = TrainConfig(lr=0.1 + 0.2, augment=("flip", "shift"), target_accuracy=0.9, limit=5, precision="bf16")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_json_with_other_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such setting: colour, learning_rate"):
        TrainConfig.from_dict({"learning_rate": 1, "colour": "red", "epochs": 1})
