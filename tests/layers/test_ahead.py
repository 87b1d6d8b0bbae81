"""A first step compiled by two processes: what the other one does, and when there is one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from peers import mnist_like

import cnn
from cnn import ahead
from cnn.kernels.cpu import cache
from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.conv_plan import pick
from cnn.kernels.suites import SUITES
from cnn.kernels.threads import get_num_threads, set_num_threads
from cnn.layers.joined import join
from cnn.models import MODELS

pytestmark = pytest.mark.skipif(not cache.LOCKS, reason="a cache that cannot be locked is not shared (Windows)")


class Started:
    """In place of a process: notes what would have been sent, and what became of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.works: list[Any] = []
        self.ended: list[str] = []
        monkeypatch.setattr(ahead, "_start", self._start)

    def _start(self, work: Any) -> Any:
        self.works.append(work)
        return self

    def kill(self) -> None:
        self.ended.append("killed")

    def wait(self) -> None:
        self.ended.append("waited for")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))  # of functions made from now on
    before = get_num_threads()
    set_num_threads(2)
    yield
    set_num_threads(before)


def network() -> cnn.Sequential:
    cnn.manual_seed(3)
    return cnn.Sequential(
        cnn.Conv2d(1, 3, 3),
        cnn.ReLU(),
        cnn.MaxPool2d(2),
        cnn.Flatten(),
        cnn.Linear(27, 10),
    )


def compile_something(of: type[np.generic] = np.float32) -> None:
    """A function of the CPU backend, which the cache has not."""
    jit()(pick.py_func)(np.zeros(1, of), np.zeros(1, np.int64), np.zeros(1, of))


def first_step(model: cnn.Layer, criterion: Any = None, dtype: Any = np.float32) -> Any:
    x, labels = mnist_like(0, 4, 1, 8, 8)
    criterion = cnn.CrossEntropyLoss() if criterion is None else criterion
    return ahead.compiled_ahead(join(model), criterion, x.astype(dtype), labels)


def test_it_begins_with_what_has_to_be_compiled(started: Started) -> None:
    with first_step(network()):
        assert started.works == []
        compile_something()
        compile_something(np.float64)
        assert len(started.works) == 1
        assert started.ended == []
    assert started.ended == ["killed", "waited for"]
    compile_something(np.int64)
    assert len(started.works) == 1


def test_nothing_to_compile(started: Started) -> None:
    compile_something()
    with first_step(network()):
        compile_something()
    assert started.works == started.ended == []


def test_it_ends_with_an_error(started: Started) -> None:
    def interrupted() -> None:
        with first_step(network()):
            compile_something()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started.ended == ["killed", "waited for"]


class Own(cnn.Linear):
    pass


class OwnLoss(cnn.CrossEntropyLoss):
    pass


@pytest.mark.parametrize(
    ("model", "criterion", "dtype"),
    [
        (cnn.Sequential(cnn.Flatten(), Own(64, 10)), None, np.float32),
        (network(), OwnLoss(), np.float32),
        (network().double(), None, np.float64),
    ],
    ids=["a layer of one's own", "a loss of one's own", "float64, of which nothing is compiled"],
)
def test_alone(started: Started, model: cnn.Layer, criterion: Any, dtype: Any) -> None:
    with first_step(model, criterion, dtype):
        compile_something()
    assert started.works == []


def test_alone_with_one_thread(started: Started) -> None:
    set_num_threads(1)
    with first_step(network()):
        compile_something()
    assert started.works == []


def test_alone_where_the_cache_is_not_shared(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOCKS", False)
    with first_step(network()):
        compile_something()
    assert started.works == []


@pytest.mark.parametrize("name", ["executable", "frozen"])
def test_alone_without_an_interpreter(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, name, "" if name == "executable" else True, raising=False)
    assert ahead._start(None) is None


def test_what_cannot_be_sent() -> None:
    model = network()
    model.of_ones_own = lambda: None  # type: ignore[attr-defined]
    with first_step(model):
        compile_something()
    assert ahead._start(model) is None


def test_a_process_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_arguments: Any, **_options: Any) -> None:
        raise BlockingIOError

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    with first_step(network()):
        compile_something()


def test_a_process_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PROGRAM", "raise SystemExit(3)")
    process = ahead._start(np.zeros(2**20))
    assert process is not None
    assert process.wait(60) == 3


def odd_ones() -> cnn.Sequential:
    return cnn.Sequential(
        cnn.Conv1d(2, 4, 3, padding=1),
        cnn.Sigmoid(),
        cnn.Dropout(0.5),
        cnn.AvgPool1d(2),
        cnn.Conv1d(4, 4, 3),
        cnn.MaxPool1d(3, stride=2),
        cnn.Flatten(),
        cnn.Linear(4, 6),
        cnn.ReLU(),
        cnn.Dropout(0.5),
        cnn.Linear(6, 3),
        cnn.Tanh(),
    )


@pytest.mark.parametrize("name", [*MODELS, "odd ones"])
def test_what_the_other_process_does(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rng = np.random.default_rng(0)
    if name == "odd ones":
        model, criterion, target = odd_ones(), cnn.MSELoss(), rng.random((3, 3), np.float32)
        x = rng.random((3, 2, 12), np.float32)
    else:
        model, criterion, target = MODELS[name](), cnn.CrossEntropyLoss(), rng.integers(0, 10, 2)
        x = rng.random((2, *SUITES[name].image), np.float32)
    calls = []
    forward, backward = cnn.Sequential.forward, cnn.Sequential.backward
    monkeypatch.setattr(cnn.Sequential, "forward", lambda *of: calls.append("forward") or forward(*of))
    monkeypatch.setattr(cnn.Sequential, "backward", lambda *of, **how: calls.append("backward") or backward(*of, **how))
    message = io.BytesIO()
    ahead._Emptied(message).dump((join(model), criterion, x, target))
    assert message.tell() < 2**14
    message.seek(0)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=message))
    ahead.rehearse()
    assert calls[0] == "forward"
    assert "backward" in calls


def test_a_step_asks_once_for_each_shape(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("cnn.step.compiled_ahead", lambda *of: asked.append(of[2].shape) or ahead.compiled_ahead(*of))
    model = network()
    step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1))
    for images in (4, 4, 3, 4, 3):
        step(*mnist_like(0, images, 1, 8, 8))
    assert asked == [(4, 1, 8, 8), (3, 1, 8, 8)]


# A process of its own, with an empty cache: prints what it compiles, and its losses.
STEPS = """
import sys
from numba.core import event
import numpy as np
import cnn
from cnn import ahead
from peers import mnist_like
from test_ahead import network

class Compiled(event.Listener):
    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("cnn."):
            print(function.__module__.rpartition(".")[2], function.__name__)
    def on_end(self, event):
        pass

processes = []
start = ahead._start
def watched(work):
    process = start(work)
    if sys.argv[1] == "one after the other":
        assert process.wait(300) == 0
    processes.append(process)
    return process
ahead._start = watched
cnn.set_num_threads(1 if sys.argv[1] == "alone" else 2)
model = network()
step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), cnn.SGD(model.parameters(), lr=0.1))
with event.install_listener("numba:compile", Compiled()):
    losses = [step(*mnist_like(number, 4, 1, 8, 8)) for number in range(2)]
assert len(processes) == (sys.argv[1] != "alone"), processes
assert all(process.poll() is not None for process in processes)
print([float(loss).hex() for loss in losses])
"""


def run(how: str, folder: Path) -> tuple[set[str], str]:
    """What was compiled, and the losses."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS, how],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONWARNINGS": "error",
            "NUMBA_CACHE_DIR": str(folder),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *compiled, losses = done.stdout.splitlines()
    return set(compiled), losses


def test_the_way_back_is_compiled_by_the_other(tmp_path: Path) -> None:
    alone, losses = run("alone", tmp_path / "alone")
    forward = {"linear _forward", "conv_channels correlate_images"}
    back = {"linear _backward", "conv_channels add_parts"}
    assert back | forward <= alone
    # The other process is done before this one has compiled its first function.
    together, losses_together = run("one after the other", tmp_path / "together")
    assert not back & together
    assert forward <= together
    assert losses_together == losses
    # As it is, both at a time. Then nothing is left to compile.
    _, losses_side_by_side = run("side by side", tmp_path / "both")
    assert losses_side_by_side == losses
    assert run("alone", tmp_path / "both") == (set(), losses)
