"""`python -m benchmarks.memory NETWORK BATCH TRAINER`: bytes that training needs at its peak, in a process of its own.

On a CPU: the most memory that was resident during steps, less what was resident before the network was built. Another
network like it has made a step by then, of few images but enough that large batches take the same ways: code that is
loaded once, ours or PyTorch's, does not count. On a GPU: what the memory pool held at its peak.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from subprocess import run

from benchmarks.networks import Network
from benchmarks.selection import named
from benchmarks.shapes import QUICK_IMAGES
from benchmarks.trainers import TRAINERS, Trainer

STEPS = 3

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def possible(device: str) -> bool:
    """A CPU's peak is asked of Linux."""
    return device == "cuda" or RESET.exists()


def of_step(network: Network, trainer: Trainer) -> float:
    """Measured in another process."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "benchmarks.memory", network.name, str(network.batch), trainer.name]
    environment = {**os.environ, "PYTHONPATH": path}
    return float(run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main(name: str, batch: int, trainer_name: str) -> None:
    from benchmarks.train import RATE, batch_of

    network = replace(Network.named(name), batch=batch)
    trainer = named(TRAINERS, trainer_name)
    x, labels = batch_of(network, batch)
    warm_up = trainer.start(network.build(), RATE)
    warm_up.step(warm_up.move(x[:QUICK_IMAGES]), warm_up.move(labels[:QUICK_IMAGES]))
    before = _resident("VmRSS")
    training = trainer.start(network.build(), RATE)
    there = training.move(x), training.move(labels)
    for number in range(STEPS):
        training.to_numpy(training.step(*there))
        if number == 0 and trainer.device == "cpu":
            RESET.write_text("5")  # the peak starts anew from what is resident now: proc(5)
    print(_resident("VmHWM") - before if trainer.device == "cpu" else _pool(trainer))


def _resident(field: str) -> int:
    """VmRSS: now. VmHWM: at the peak. In bytes."""
    if not STATUS.exists():
        return 0
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _pool(trainer: Trainer) -> int:
    if trainer.ours:
        return int(import_module("cupy").get_default_memory_pool().total_bytes())
    return int(import_module("torch").cuda.max_memory_reserved())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
