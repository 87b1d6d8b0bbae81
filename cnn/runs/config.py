"""The settings of a training run: what `cnn train` takes, what config.json holds, and the rules they obey."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnn.kernels.precision import PRECISIONS

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("one-cycle", "cosine", "step", "constant")
AUGMENTATIONS = ("crop", "flip", "shift")
DEVICES = ("auto", "cpu", "cuda")

# What a setting left at None stands for: good rates differ a hundredfold between SGD and Adam.
OPTIMIZER_DEFAULTS: dict[str, dict[str, float | None]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"lr": 1e-3, "momentum": None, "weight_decay": 0.0},
    "adamw": {"lr": 1e-3, "momentum": None, "weight_decay": 1e-2},
}


class ConfigError(ValueError):
    """A setting that no run can have: the user's mistake, found before anything is done."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run, except for where it is written.

    model: a built-in name or "file.py:function". data: a name or a path for `cnn.data.load`. lr: the peak rate of the
    one-cycle schedule, the first rate of the others. momentum: of SGD, with Nesterov's step unless it is 0. limit: only
    the first so many training images. target_accuracy: in 0..1, training stops after the epoch that reaches it on the
    test images. deterministic: the same bits in every run on a GPU, too. graph: replay steps as CUDA graphs there.
    precision: of all convolutions, None for what the model's layers say themselves. checkpoint_every: steps. lr,
    momentum and weight_decay default to `OPTIMIZER_DEFAULTS`.

    Raises `ConfigError` naming the option, the rule and the value.
    """

    model: str = "lenet5"
    data: str = "mnist"
    epochs: int = 4
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str = "one-cycle"
    augment: tuple[str, ...] = ()
    target_accuracy: float | None = None
    seed: int = 0
    device: str = "auto"
    deterministic: bool = False
    graph: bool = True
    precision: str | None = None
    checkpoint_every: int = 200
    limit: int | None = None

    def __post_init__(self) -> None:
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("device", self.device, DEVICES)
        if self.precision is not None:
            _check_choice("precision", self.precision, PRECISIONS)
        for name, default in OPTIMIZER_DEFAULTS[self.optimizer].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            elif default is None:
                raise ConfigError(f"--{name} belongs to --optimizer sgd, not to {self.optimizer}")
        for name in ("model", "data"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ConfigError(f"--{name} must be a name or a path, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "checkpoint_every"):
            _check_integer(name, getattr(self, name), 1)
        _check_integer("seed", self.seed, 0)
        for name in ("deterministic", "graph"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{_option(name)} must be true or false, got {getattr(self, name)!r}")
        if self.limit is not None:
            _check_integer("limit", self.limit, 1)
        _check_number("lr", self.lr, "above 0", lambda lr: lr > 0)
        _check_number("weight_decay", self.weight_decay, "0 or more", lambda decay: decay >= 0)
        if self.momentum is not None:
            _check_number("momentum", self.momentum, "at least 0 and below 1", lambda momentum: 0 <= momentum < 1)
        if self.target_accuracy is not None:
            _check_number("target_accuracy", self.target_accuracy, "above 0, up to 1", lambda target: 0 < target <= 1)
        object.__setattr__(self, "augment", tuple(self.augment))
        for name in self.augment:
            _check_choice("augment", name, AUGMENTATIONS)
        if len(set(self.augment)) < len(self.augment):
            raise ConfigError(f"--augment names each kind once, got {', '.join(self.augment)}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has lists for tuples."""
        return {**dataclasses.asdict(self), "augment": list(self.augment)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`. Raises `ConfigError` for names that are no setting, too."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ConfigError(f"no such setting: {', '.join(unknown)}")
        return cls(**values)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{_option(name)} must be one of {', '.join(choices)}, got {value!r}")


def _check_integer(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{_option(name)} must be a whole number of at least {least}, got {value!r}")


def _check_number(name: str, value: Any, rule: str, holds: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or not holds(value):
        raise ConfigError(f"{_option(name)} must be a number {rule}, got {value!r}")
