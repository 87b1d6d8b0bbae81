"""The same networks in `torch.nn`, and trainers that are held against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from benchmarks import train
from benchmarks.networks import NETWORKS, Network, to_torch
from benchmarks.recorder import Recorder
from benchmarks.rows import WRONG
from benchmarks.trainers import Ours, Training


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_in_torch_gives_the_same_scores(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch: extra `torch`")
    network = Network.named(name)
    model = network.build().eval()
    x = np.random.default_rng(0).random((2, *network.image), np.float32)
    with torch.inference_mode():
        scores = to_torch(model).eval()(torch.from_numpy(x)).numpy()
    assert_close(model(x), scores, length=1024)


def test_a_trainer_with_a_wrong_update_is_caught() -> None:
    class TwiceTheRate(Ours):
        def start(self, model: object, lr: float) -> Training:
            return super().start(model, 2 * lr)  # type: ignore[arg-type]

    recorder = Recorder("train")
    network = Network.named("lenet5", quick=True)
    train.measure(recorder, [network], [TwiceTheRate("cpu")], seconds=0.001, with_memory=False)
    (row,) = recorder.rows
    assert (row.status, row.median) == (WRONG, None)
    assert row.note.startswith("its losses are [")
