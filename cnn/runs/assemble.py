"""From the settings of a run to its parts: data, optimiser, learning-rate schedule."""

from __future__ import annotations

import math

from cnn import SGD, Adam, AdamW, CosineAnnealingLR, OneCycleLR, Optimizer, Parameter, Schedule, StepLR
from cnn.data import Dataset, RandomCrop, RandomFlip, RandomShift, Transform, load
from cnn.runs.config import TrainConfig

# Usual amounts: 4 pixels of padding for CIFAR's crops; digits of MNIST stay whole when shifted by 2.
TRANSFORMS: dict[str, Transform] = {"crop": RandomCrop(4), "flip": RandomFlip(0.5), "shift": RandomShift(2)}

# --schedule step divides the rate by ten after each third of the training.
DECAYS = 3


def load_training_images(config: TrainConfig) -> Dataset:
    """The training split, or as much of it as the settings want. Raises ValueError, OSError as `cnn.data.load`."""
    dataset = load(config.data, "train")
    return dataset if config.limit is None else dataset.subset(slice(config.limit))


def load_test_images(data: str, input_shape: tuple[int, ...], classes: tuple[str, ...]) -> Dataset:
    """The test split of `data`, checked to be what a network for `input_shape` and `classes` can be tested on.

    Raises ValueError with both shapes or classes where it is not; ValueError, OSError as `cnn.data.load` too.
    """
    dataset = load(data, "test")
    if dataset.image_shape != tuple(input_shape):
        raise ValueError(
            f"{data}: test images have shape {dataset.image_shape}, the network takes {tuple(input_shape)}"
        )
    if dataset.classes != classes:
        raise ValueError(
            f"{data}: the classes of the test images, {_listed(dataset.classes)}, are not those of the network, "
            f"{_listed(classes)}"
        )
    if not len(dataset):
        raise ValueError(f"{data}: there are no test images")
    return dataset


def make_transforms(config: TrainConfig) -> list[Transform]:
    return [TRANSFORMS[name] for name in config.augment]


def make_optimizer(config: TrainConfig, parameters: list[Parameter]) -> Optimizer:
    lr, decay = config.lr, config.weight_decay
    assert lr is not None, "TrainConfig fills it in"
    assert decay is not None, "TrainConfig fills it in"
    if config.optimizer == "sgd":
        momentum = config.momentum or 0.0
        return SGD(parameters, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
    kind = Adam if config.optimizer == "adam" else AdamW
    return kind(parameters, lr=lr, weight_decay=decay)


def make_schedule(config: TrainConfig, optimizer: Optimizer, total_steps: int) -> Schedule | None:
    """The schedule, to be stepped after each of `total_steps` steps, or None for a constant rate."""
    if config.schedule == "one-cycle":
        # --momentum keeps its meaning: it does not cycle.
        return OneCycleLR(optimizer, max_lr=optimizer.lr, total_steps=total_steps, cycle_momentum=False)
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total_steps)
    if config.schedule == "step":
        return StepLR(optimizer, step_size=math.ceil(total_steps / DECAYS))
    return None


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} ({shown}{', ...' if len(names) > 5 else ''})"
