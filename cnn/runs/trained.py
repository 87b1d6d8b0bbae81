"""A network as a run left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnn.layers import Layer
from cnn.runs.checkpoint import read_newest
from cnn.runs.config import TrainConfig
from cnn.runs.folder import checkpoints_of, open_run
from cnn.runs.network import Network
from cnn.runs.session import select


@dataclass(frozen=True, eq=False)
class Trained:
    """The settings of a run, and the network with the parameters of its newest checkpoint, in eval mode."""

    config: TrainConfig
    network: Network
    model: Layer
    step: int


def load_trained(run: str | Path, device: str, warn: Callable[[str], None]) -> Trained:
    """Read a run folder. `warn` is told of a damaged checkpoint that is passed over.

    Raises `ConfigError` for what is no run folder, ValueError where it has no checkpoint that fits, OSError.
    """
    config = open_run(run)
    checkpoint = read_newest(checkpoints_of(Path(run)), warn)
    if checkpoint is None:
        raise ValueError(f"{run} has no checkpoint yet")
    network = Network.from_dict(checkpoint.state["network"])
    model = network.build(config.precision)
    model.load_state_dict(select(checkpoint.arrays, "model"))
    return Trained(config, network, model.to(device).eval(), checkpoint.step)
