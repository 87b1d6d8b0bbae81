"""Training steps replayed as CUDA graphs: the bits of steps that are not, one launch each, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import cnn
from cnn.data import Batches, Dataset, RandomFlip
from cnn.graph import Replay
from cnn.runs.config import TrainConfig
from cnn.runs.evaluate import evaluate, evaluation_batches
from cnn.runs.feed import Resident, feed
from cnn.runs.forward import Forward
from cnn.runs.streamed import Streamed

pytestmark = pytest.mark.gpu


def dataset(count: int = 22, channels: int = 1) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, channels, 8, 8), dtype=np.uint8)
    return Dataset(images, rng.integers(0, 10, count), tuple("abcdefghij"))


def small() -> cnn.Sequential:
    cnn.manual_seed(4)
    return cnn.Sequential(
        cnn.Conv2d(1, 4, 3, padding=1), cnn.BatchNorm2d(4), cnn.ReLU(), cnn.MaxPool2d(2),
        cnn.Conv2d(4, 4, 3, padding=1), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Flatten(),
        cnn.Linear(16, 12), cnn.Tanh(), cnn.Linear(12, 10),
    ).to("cuda")  # fmt: skip


OPTIMIZERS: dict[str, Callable[..., cnn.Optimizer]] = {
    "sgd": lambda parameters: cnn.SGD(parameters, lr=0.1, momentum=0.9),
    "adamw": lambda parameters: cnn.AdamW(parameters, lr=0.01),
}


def trained(graph: bool, optimizer: str = "sgd", epochs: int = 3, **options: Any) -> tuple[Any, ...]:
    """Losses and state after some epochs of 5 batches, the last one a partial one, under a schedule."""
    model = small()
    updates = OPTIMIZERS[optimizer](model.parameters())
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), updates, deterministic=True, graph=graph, **options)
    fed = Resident(Batches(dataset(), 5, seed=1), "cuda")
    schedule = cnn.CosineAnnealingLR(updates, 5 * epochs)
    for epoch in range(epochs):
        for batch in fed.epoch(epoch):
            step.run(batch)
            schedule.step()
    return step.losses(5 * epochs).get(), model.state_dict(), updates.state_dict()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replayed_steps_have_the_bits_of_others(optimizer: str) -> None:
    (losses, state, updates), (wanted_losses, wanted_state, wanted_updates) = (
        trained(graph, optimizer) for graph in (True, False)
    )
    assert len(set(losses.tolist())) == 15
    assert_array_equal(losses, wanted_losses)
    for name, array in wanted_state.items():  # the number of batches that normalisation saw, too
        assert_array_equal(state[name], array, err_msg=name)
    assert updates["scalars"] == wanted_updates["scalars"]
    for name, array in wanted_updates["arrays"].items():
        assert_array_equal(updates["arrays"][name], array, err_msg=name)


def test_from_the_third_step_on_there_is_one_launch(cupy: Any) -> None:
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), OPTIMIZERS["sgd"](model.parameters()))
    batches = list(Resident(Batches(dataset(20), 5), "cuda").epoch(0))
    for batch in batches[:2]:
        step.run(batch)
    if not hasattr(cupy, "vgpu"):
        pytest.skip("launches are counted by the stand-in only")
    cupy.vgpu.reset()
    mark = cupy.vgpu.mark()
    for batch in batches[2:]:
        step.run(batch)
    counts = cupy.vgpu.counts()
    assert (counts["graph_launches"], counts["host_launches"]) == (2, 2)
    assert not {"h2d", "d2h", "host_waits"} & set(counts)
    assert not cupy.vgpu.allocations_since(mark)
    assert not cupy.vgpu.findings()


def test_arrays_of_ones_own_are_brought_in(cupy: Any) -> None:
    rng = np.random.default_rng(0)
    batches = [(rng.uniform(-1, 1, (5, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 5)) for _ in range(5)]
    losses = []
    for graph in (True, False):
        model = small()
        step = cnn.TrainStep(
            model, cnn.CrossEntropyLoss(), OPTIMIZERS["sgd"](model.parameters()), deterministic=True, graph=graph
        )
        kept = [step(*map(cupy.asarray, batch)) for batch in batches]
        losses.append([float(loss) for loss in kept])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 5


def test_another_rate_or_momentum_counts_from_the_next_step() -> None:
    states = []
    for graph in (True, False):
        model = small()
        optimizer = cnn.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer, deterministic=True, graph=graph)
        batches = list(Resident(Batches(dataset(20), 5), "cuda").epoch(0))
        for number, batch in enumerate(batches * 2):
            optimizer.lr = 0.1 / (number + 1)
            optimizer.momentum = 0.9 if number < 5 else 0.5
            step.run(batch)
        states.append(model.state_dict())
    for name, array in states[1].items():
        assert_array_equal(states[0][name], array, err_msg=name)


class Allocating(cnn.Layer):
    def forward(self, x: Any) -> Any:
        return x + 1

    def backward(self, grad_output: Any, *, needs_input_gradient: bool = True) -> Any:
        return grad_output


class Reading(cnn.Layer):
    def forward(self, x: Any) -> Any:
        assert float(x[0, 0]) < 1e6
        return x

    def backward(self, grad_output: Any, *, needs_input_gradient: bool = True) -> Any:
        return grad_output


@pytest.mark.parametrize("planted", [Allocating, Reading])
def test_what_cannot_be_replayed_is_refused(cupy: Any, planted: type[cnn.Layer]) -> None:
    x, labels = cupy.zeros((4, 3), np.float32), cupy.arange(4) % 2

    def steps(graph: bool) -> Iterator[Any]:
        model = cnn.Sequential(planted(), cnn.Linear(3, 2)).to("cuda")
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1), graph=graph)
        while True:
            yield step(x, labels)

    replayed = steps(graph=True)
    next(replayed)
    with pytest.raises(RuntimeError, match="a step that allocates or reads back cannot be recorded"):
        next(replayed)
    by_hand = steps(graph=False)
    assert len([next(by_hand) for _ in range(4)]) == 4


def test_an_interrupted_recording_leaves_the_stream_usable(cupy: Any) -> None:
    calls = []
    counter = cupy.zeros(1, np.int32)

    def work() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        cupy.add(counter, 1, out=counter)

    replay = Replay(work)
    replay()
    with pytest.raises(KeyboardInterrupt):
        replay()
    for _ in range(3):
        replay()
    assert int(counter[0]) == 4
    assert len(calls) == 3


def test_two_models_in_one_process() -> None:
    together = {}
    for names in (["one"], ["other"], ["one", "other"]):
        steps = {}
        for name in names:
            model = small()
            if name == "other":
                model[0].weight.data *= 2
            optimizer = OPTIMIZERS["sgd"](model.parameters())
            steps[name] = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer, deterministic=True)
        for batch in Resident(Batches(dataset(25), 5), "cuda").epoch(0):
            for step in steps.values():
                step.run(batch)
        for name, step in steps.items():
            together.setdefault(name, []).append(step.losses(5).tolist())
    for alone, beside in together.values():
        assert alone == beside
    assert together["one"] != together["other"]


def test_a_model_that_moved_is_refused() -> None:
    model = small()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), OPTIMIZERS["sgd"](model.parameters()))
    batches = list(Resident(Batches(dataset(20), 5), "cuda").epoch(0))
    for batch in batches[:3]:
        step.run(batch)
    model.to("cpu")
    with pytest.raises(RuntimeError, match="the parameters have moved since this optimiser was made"):
        step.run(batches[3])


@pytest.mark.parametrize("resident", [True, False])
def test_evaluation(resident: bool) -> None:
    model = small().eval()
    images = dataset(300)
    batches = evaluation_batches(images, cnn.data.Normalize((0.5,), (0.25,)))
    fed = Resident(batches, "cuda") if resident else Streamed(batches)
    found = [evaluate(Forward(model, graph=graph), fed.epoch(0), 10) for graph in (True, False)]
    assert_array_equal(found[0].losses, found[1].losses)
    host = model.to("cpu")
    wanted = evaluate(Forward(host), feed(batches, "cpu").epoch(0), 10)
    np.testing.assert_allclose(found[0].losses, wanted.losses, rtol=1e-4)
    assert_array_equal(found[0].labels, wanted.labels)


def test_streamed_batches_are_those_of_the_host() -> None:
    images = dataset(23)
    batches = Batches(images, 5, seed=2, augment=[RandomFlip()])
    fed = Streamed(batches)
    for _ in range(2):
        found = [(batch.x.get(), batch.labels.get()) for batch in fed.epoch(1)]
        for (x, labels), (wanted, wanted_labels) in zip(found, batches.epoch(1), strict=True):
            assert_array_equal(x, wanted)
            assert_array_equal(labels, wanted_labels)


def test_training_from_streamed_batches_is_that_from_resident_ones() -> None:
    losses = []
    for kind in (lambda batches: Resident(batches, "cuda"), Streamed):
        model = small()
        step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), OPTIMIZERS["sgd"](model.parameters()), deterministic=True)
        for epoch in range(2):
            for batch in kind(Batches(dataset(23), 5)).epoch(epoch):
                step.run(batch)
        losses.append(step.losses(10).tolist())
    assert losses[0] == losses[1]


def test_the_command_line_can_do_without(tmp_path: Path) -> None:
    assert TrainConfig().graph
    assert not TrainConfig.from_dict({**TrainConfig().to_dict(), "graph": False}).graph
