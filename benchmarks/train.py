"""`train`: whole training steps, inference of one image, peak memory of a step, and time to an accuracy.

Verified first: the losses of a few steps, of few images and without dropout, against our reference in float64.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import cnn
from benchmarks import clock, gpu, memory
from benchmarks.clock import Call, Statistics, first_call
from benchmarks.networks import Network
from benchmarks.recorder import Recorder
from benchmarks.rows import FAILED, WRONG
from benchmarks.telling import tell
from benchmarks.trainers import Trainer, Training
from cnn import kernels

STEP, ONE_IMAGE, PEAK_MEMORY = "step", "inference of one image", "peak memory of a step"

RATE = 0.01
VERIFIED_STEPS, VERIFIED_IMAGES = 3, 8

# Losses of the first steps, relative: what the precision of the factors leaves of them; bf16 has three bits less than
# tf32. A wrong gradient shows in the second loss.
LOSS_TOLERANCE = {"float32": 1e-4, "tf32": 1e-2, "bf16": 8e-2}

# Steps until a TrainStep replays what it has recorded.
RECORDED = 2

# On a GPU, steps that are launched one after the other before the host waits: a training loop waits for none.
LAUNCHED = 20


def measure(
    recorder: Recorder,
    networks: Iterable[Network],
    trainers: Sequence[Trainer],
    *,
    seconds: float,
    with_memory: bool,
) -> None:
    for network in networks:
        tell(f"{network.name} {network.shape}: {VERIFIED_STEPS} losses of {VERIFIED_IMAGES} images are verified")
        expected = expected_losses(network, *batch_of(network, VERIFIED_IMAGES))
        right = [trainer for trainer in trainers if _is_right(recorder, network, trainer, expected)]
        _steps(recorder, network, right, seconds)
        _one_image(recorder, network, right, seconds)
        for trainer in right if with_memory else ():
            peak = memory.of_step(network, trainer)
            of_run = Statistics(peak, peak, peak, 1, peak)
            _add(recorder, network, PEAK_MEMORY, trainer, unit="B", images=network.batch, statistics=of_run)


def batch_of(network: Network, images: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(0)
    return draw.random((images, *network.image), np.float32), draw.integers(0, network.classes, images)


def _is_right(recorder: Recorder, network: Network, trainer: Trainer, expected: Sequence[float]) -> bool:
    x, labels = batch_of(network, VERIFIED_IMAGES)
    try:
        training = trainer.start(network.build(dropout=False), RATE)
        there = training.move(x), training.move(labels)
        losses = [float(training.to_numpy(training.step(*there))) for _ in range(VERIFIED_STEPS)]
    except Exception as error:  # whatever it is, it costs this one its rows, not the others theirs
        status, note = FAILED, f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if np.allclose(losses, expected, rtol=LOSS_TOLERANCE[trainer.precision], atol=0):
            return True
        status, note = WRONG, f"its losses are {losses} where the reference has {expected}"
    tell(f"{network.name}: {trainer.name} {status}: {note}")
    _add(recorder, network, STEP, trainer, status=status, note=note)
    return False


def expected_losses(network: Network, x: Any, labels: Any) -> list[float]:
    model = network.build(dropout=False).double()
    optimizer = cnn.SGD(model.parameters(), RATE, 0.9, True, 5e-4)
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer)
    with kernels.backend("reference"):
        return [float(step(x.astype(np.float64), labels)) for _ in range(VERIFIED_STEPS)]


def _steps(recorder: Recorder, network: Network, trainers: Sequence[Trainer], seconds: float) -> None:
    def prepare(trainer: Trainer) -> Call:
        training = trainer.start(network.build(), RATE)
        x, labels = (training.move(array) for array in batch_of(network, network.batch))
        return lambda: training.step(x, labels)

    _timed(recorder, network, STEP, trainers, prepare, seconds, network.batch)


def _one_image(recorder: Recorder, network: Network, trainers: Sequence[Trainer], seconds: float) -> None:
    def prepare(trainer: Trainer) -> Call:
        training: Training = trainer.start(network.build(), RATE)
        training.evaluate()
        x = training.move(batch_of(network, 1)[0])
        call = lambda: training.predict(x)  # noqa: E731 - what is timed is named by its purpose
        return gpu.finished(call) if trainer.device == "cuda" else call

    _timed(recorder, network, ONE_IMAGE, trainers, prepare, seconds, 1)


def _timed(
    recorder: Recorder,
    network: Network,
    purpose: str,
    trainers: Sequence[Trainer],
    prepare: Callable[[Trainer], Call],
    seconds: float,
    images: int,
) -> None:
    """By the wall clock: of a step on a GPU that is what a training loop sees, launches and all."""
    calls = {}
    repeats = {}
    for trainer in trainers:
        call = prepare(trainer)
        on_gpu = trainer.device == "cuda" and purpose == STEP
        _, first = first_call(gpu.finished(call) if on_gpu else call)
        repeats[trainer.name] = (2 if gpu.emulated() else LAUNCHED) if on_gpu else 1
        for _ in range(RECORDED):
            call()
        calls[trainer.name] = _repeated(call, repeats[trainer.name]) if on_gpu else call, first
    gc.collect()
    gc.disable()
    others = clock.Others()
    try:
        found = clock.alternate(calls, seconds)
    finally:
        gc.enable()
    if disturbed := others.note():
        tell(f"{network.name} {purpose}: {disturbed}")
    for trainer in trainers:
        statistics = found[trainer.name].per(repeats[trainer.name])
        _add(recorder, network, purpose, trainer, images=images, note=disturbed, statistics=statistics)


def _repeated(call: Call, times: int) -> Call:
    def calls() -> None:
        for _ in range(times):
            call()

    return gpu.finished(calls)


def _add(recorder: Recorder, network: Network, purpose: str, trainer: Trainer, **more: Any) -> None:
    precision = trainer.precision
    shape = "x".join(map(str, (1, *network.image))) if purpose == ONE_IMAGE else network.shape
    recorder.measured(network.name, shape, purpose, trainer.name, trainer.device, precision=precision, **more)
