"""A run in memory: its parts, where it stands, and both as a checkpoint holds them.

The state after a step is that of the parameters, the optimiser, the schedule, the random generator, the losses that
were not yet reported, and `Position`. Batches are a function of the seed and their place (see `cnn.data.batches`), so
a run that goes on from a checkpoint computes what a straight one would, bit for bit.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cnn
from cnn.data import Batches, Dataset
from cnn.runs.assemble import (
    load_test_images,
    load_training_images,
    make_optimizer,
    make_schedule,
    make_transforms,
)
from cnn.runs.checkpoint import Checkpoint
from cnn.runs.config import TrainConfig
from cnn.runs.evaluate import evaluation_batches
from cnn.runs.feed import feed
from cnn.runs.forward import Forward
from cnn.runs.losses import LossWindow
from cnn.runs.network import Network

REPORT_EVERY = 100  # steps


@dataclass
class Position:
    """How far a run is, in numbers that JSON holds exactly.

    step: done in all. epoch: the one under way, from 0. batch: done in it. lr: of the last step. loss_sum, images: of
    the losses of this epoch that were reported. accuracy, best_accuracy: on the test images, of the last epoch and of
    the best. seconds: that the run has taken.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    lr: float = 0.0
    loss_sum: float = 0.0
    images: int = 0
    accuracy: float | None = None
    best_accuracy: float | None = None
    seconds: float = 0.0


class Session:
    """Data, model, optimiser and schedule of one run, and its position."""

    def __init__(self, config: TrainConfig, device: str) -> None:
        """Load the data and build the parts from the seed. Raises what loading and building raise."""
        cnn.manual_seed(config.seed)
        train = load_training_images(config)
        self.config = config
        self.device = device
        self.network = Network.of(config.model, train)
        self.test_images: Dataset = load_test_images(config.data, train.image_shape, train.classes)
        self.batches = Batches(
            train,
            config.batch_size,
            seed=config.seed,
            augment=make_transforms(config),
            normalize=self.network.normalize,
        )
        self.feed = feed(self.batches, device)
        self.test_feed = feed(evaluation_batches(self.test_images, self.network.normalize), device)
        self.model = self.network.build(config.precision).to(device).train()
        self.optimizer = make_optimizer(config, self.model.parameters())
        self.schedule = make_schedule(config, self.optimizer, self.total_steps)
        self.train_step = cnn.TrainStep(
            self.model, cnn.CrossEntropyLoss(), self.optimizer, deterministic=config.deterministic, graph=config.graph
        )
        self.forward = Forward(self.model, graph=config.graph)
        self.window = LossWindow(self.train_step.losses)
        self.position = Position()

    @property
    def total_steps(self) -> int:
        return self.config.epochs * len(self.batches)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the target accuracy is reached."""
        target, accuracy = self.config.target_accuracy, self.position.accuracy
        reached = target is not None and accuracy is not None and accuracy >= target
        return reached or self.position.epoch >= self.config.epochs

    def arrays(self) -> dict[str, Any]:
        """Every array of the state, as NumPy arrays: model.*, optimizer.*, window.*"""
        groups = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict()["arrays"],
            "window": self.window.state_dict(),
        }
        return {f"{group}.{name}": array for group, arrays in groups.items() for name, array in arrays.items()}

    def state(self) -> dict[str, Any]:
        """The rest of the state, for JSON."""
        return {
            "config": self.config.to_dict(),
            "network": self.network.to_dict(),
            "train_images": len(self.batches.dataset),
            "position": dataclasses.asdict(self.position),
            "optimizer": self.optimizer.state_dict()["scalars"],
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "random": cnn.random.get_state(),
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint of this run.

        Raises ValueError if the settings, the data or the model are not what they were when it was written.
        """
        state = checkpoint.state
        settings = self.config.to_dict()
        changed = [name for name, was in state["config"].items() if was != settings[name]]
        if changed:
            differences = ", ".join(f"{name} from {state['config'][name]} to {settings[name]}" for name in changed)
            raise ValueError(f"config.json was changed since the checkpoint was written: {differences}")
        before, now = Network.from_dict(state["network"]), self.network
        if (before, state["train_images"]) != (now, len(self.batches.dataset)):
            raise ValueError(
                f"the data is not what the run began with: {self.config.data} had {state['train_images']} training "
                f"images, normalised with {before.normalize}, and has {len(self.batches.dataset)}, {now.normalize}"
            )
        self.model.load_state_dict(select(checkpoint.arrays, "model"))
        self.optimizer.load_state_dict(
            {"arrays": select(checkpoint.arrays, "optimizer"), "scalars": state["optimizer"]}
        )
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.window.load_state_dict(select(checkpoint.arrays, "window"))
        cnn.random.set_state(state["random"])
        self.position = Position(**state["position"])


def select(arrays: dict[str, Any], group: str) -> dict[str, Any]:
    """The arrays of one group of `Session.arrays`, by their names in it."""
    prefix = group + "."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
