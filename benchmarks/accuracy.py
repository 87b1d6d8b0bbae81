"""Time until a network classifies so many test images of MNIST rightly: LeNet-5, with the recipe of `cnn train`.

Everybody gets the same batches, learning rates and first weights. The clock runs through batches, steps and the
evaluation after each epoch; compilation is done before, on one batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

import cnn
from benchmarks.clock import Statistics, settle
from benchmarks.networks import Network
from benchmarks.recorder import Recorder
from benchmarks.rows import FAILED
from benchmarks.telling import tell
from benchmarks.trainers import Trainer, Training
from cnn.data import Batches, Dataset, Normalize, load
from cnn.runs.config import OPTIMIZER_DEFAULTS, TrainConfig

NETWORK = "lenet5"
TARGET = 0.99
TEST_BATCH = 250

# With --quick, an accuracy that few images suffice for.
QUICK_TARGET, QUICK_IMAGES = 0.2, 1000


@dataclass(frozen=True)
class Task:
    train: Dataset
    test: Dataset
    normalize: Normalize
    target: float
    epochs: int
    batch: int

    @staticmethod
    def of(quick: bool) -> Task:
        config = TrainConfig()
        train, test = load("mnist", "train"), load("mnist", "test")
        if quick:
            train, test = train.subset(slice(QUICK_IMAGES)), test.subset(slice(QUICK_IMAGES // 2))
        target = QUICK_TARGET if quick else TARGET
        return Task(train, test, Normalize.of(train), target, config.epochs, config.batch_size)

    @property
    def name(self) -> str:
        return f"time to {self.target:g} on MNIST"


def measure(recorder: Recorder, trainers: Iterable[Trainer], quick: bool) -> None:
    task, network = Task.of(quick), Network.named(NETWORK)
    for trainer in trainers:
        seconds, accuracy, epochs = _run(task, network, trainer)
        tell(f"{trainer.name}: accuracy {accuracy:.4f} after {epochs} epochs, {seconds:.1f} s")
        note = f"accuracy {accuracy:.4f} after {epochs} epochs"
        reached = accuracy >= task.target
        recorder.measured(
            NETWORK,
            f"{task.batch}x1x28x28",
            task.name,
            trainer.name,
            trainer.device,
            precision=trainer.precision,
            note=note,
            images=epochs * len(task.train),
            **({"statistics": Statistics(seconds, seconds, seconds, 1, seconds)} if reached else {"status": FAILED}),
        )


def _run(task: Task, network: Network, trainer: Trainer) -> tuple[float, float, int]:
    """Seconds, the last accuracy, and the epochs it took."""
    batches = Batches(task.train, task.batch, seed=0, normalize=task.normalize)
    test = Batches(task.test, TEST_BATCH, shuffle=False, normalize=task.normalize)
    rates = _rates(task.epochs * len(batches))
    _compile(network, trainer, batches)
    training = trainer.start(network.build(), rates[0])
    settle()
    start, step, accuracy = perf_counter(), 0, 0.0
    for epoch in range(task.epochs):
        training.train()
        for x, labels in batches.epoch(epoch):
            training.set_rate(rates[step])
            training.step(training.move(x), training.move(labels))
            step += 1
        accuracy = _accuracy(training, test)
        if accuracy >= task.target:
            return perf_counter() - start, accuracy, epoch + 1
    return perf_counter() - start, accuracy, task.epochs


def _compile(network: Network, trainer: Trainer, batches: Batches) -> None:
    training = trainer.start(network.build(), 0.0)
    x, labels = next(iter(batches.epoch(0)))
    training.step(training.move(x), training.move(labels))
    training.evaluate()
    training.to_numpy(training.predict(training.move(x)))


def _accuracy(training: Training, test: Batches) -> float:
    training.evaluate()
    correct = [training.to_numpy(training.predict(training.move(x))).argmax(axis=1) == y for x, y in test.epoch(0)]
    return float(np.concatenate(correct).mean())


def _rates(steps: int) -> list[float]:
    """Of every step: one cycle, as `cnn train` has it."""
    lr = OPTIMIZER_DEFAULTS["sgd"]["lr"]
    assert lr is not None, "SGD has a rate"
    optimizer = cnn.SGD([cnn.Parameter(np.zeros(1, np.float32))], lr)
    schedule = cnn.OneCycleLR(optimizer, lr, steps, cycle_momentum=False)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.lr)
        schedule.step()
    return rates
