"""`launch`: what a call costs before anything is computed, and a step beside its arithmetic.

Next to nothing is computed in `CALLS`: what is left is Python, checks, allocation and, on a GPU, the launch. On a GPU a
step is measured three times: until the host has issued it, until the GPU is done, and as events on the GPU see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks import clock, gpu
from benchmarks.clock import Call, Statistics, first_call
from benchmarks.networks import Network
from benchmarks.recorder import Recorder
from benchmarks.telling import tell
from benchmarks.train import RATE, RECORDED, batch_of
from benchmarks.trainers import Ours
from cnn import kernels

# Of the trainers, those whose calls are measured here, too.
PROVIDERS = ("ours", "torch", "ours-cuda", "torch-cuda")

HOST = "host, until it returns"

NO_GPU = (
    "the cost of a launch and of a step's launches is a GPU's, and there is none to use here ({reason}); what follows "
    "is the cost of a call on the CPU"
)


@dataclass(frozen=True)
class Tiny:
    """A call that computes next to nothing, of arrays of these shapes. torch: from the module, the same on tensors."""

    name: str
    ours: Callable[..., Any]
    torch: Callable[[Any], Callable[..., Any]]
    shapes: tuple[tuple[int, ...], ...]


CALLS = (
    Tiny("relu_forward of 1 number", kernels.relu_forward, lambda torch: torch.nn.functional.relu, ((1, 1),)),
    Tiny(
        "conv_forward, 1 image of 1x4x4, 1 filter of 1x1",
        kernels.conv_forward,
        lambda torch: torch.nn.functional.conv2d,
        ((1, 1, 4, 4), (1, 1, 1, 1)),
    ),
    Tiny(
        "max_pool_forward, 1 image of 1x2x2",
        lambda x: kernels.max_pool_forward(x, 2),
        lambda torch: lambda x: torch.nn.functional.max_pool2d(x, 2),
        ((1, 1, 2, 2),),
    ),
)


def measure(
    recorder: Recorder, device: str, with_torch: bool, seconds: float, networks: Iterable[Network] = ()
) -> None:
    """networks: whose steps are measured, on a GPU."""
    if device == "cpu":
        tell(NO_GPU.format(reason=gpu.missing() or "--device cpu"))
    for tiny in CALLS:
        calls = {"ours" if device == "cpu" else "ours-cuda": _ours(tiny, device)}
        if with_torch:
            calls["torch" if device == "cpu" else "torch-cuda"] = _torch(tiny, device)
        for name, statistics in _alternate(calls, seconds).items():
            shape = ", ".join("x".join(map(str, each)) for each in tiny.shapes)
            recorder.measured(tiny.name, shape, HOST, name, device, statistics=statistics)
    if device == "cuda":
        _launch(recorder, seconds)
        for network in networks:
            _step(recorder, network, seconds)


def _ours(tiny: Tiny, device: str) -> Call:
    xp = np if device == "cpu" else import_module("cupy")
    arrays = [xp.ones(shape, np.float32) for shape in tiny.shapes]
    return lambda: tiny.ours(*arrays)


def _torch(tiny: Tiny, device: str) -> Call:
    torch = import_module("torch")
    function, tensors = tiny.torch(torch), [torch.ones(shape, device=device) for shape in tiny.shapes]

    def call() -> Any:
        with torch.inference_mode():
            return function(*tensors)

    return call


def _launch(recorder: Recorder, seconds: float) -> None:
    """The one door of `cnn.kernels.cuda.launch`, without the checks and the result array of a public function."""
    from cnn.kernels.cuda import activation

    x, y = (import_module("cupy").ones(1, np.float32) for _ in range(2))
    plan = activation.plan("relu_forward", 1)
    _on_gpu(recorder, "a launch", "1 number", lambda: plan(x, y, 1), seconds)


def _step(recorder: Recorder, network: Network, seconds: float) -> None:
    """Replayed as one CUDA graph, and launched kernel by kernel."""
    for name, graph in (("a replayed step of", True), ("a step, kernel by kernel, of", False)):
        training = Ours("cuda", graph).start(network.build(), RATE)
        x, labels = (training.move(array) for array in batch_of(network, network.batch))
        step = partial(training.step, x, labels)
        _on_gpu(recorder, f"{name} {network.name}", network.shape, step, seconds)


def _on_gpu(recorder: Recorder, name: str, shape: str, call: Call, seconds: float) -> None:
    waited = gpu.finished(call)
    _, first = first_call(waited)
    for _ in range(RECORDED):
        waited()
    issued: list[float] = []
    while sum(issued) < seconds:
        issued.append(gpu.issued(call))
    statistics = {
        HOST: Statistics.of(issued, first),
        "wall clock, until the GPU is done": clock.alternate({name: (waited, first)}, seconds)[name],
        "GPU, between events": gpu.alternate({name: (call, first)}, seconds)[name][gpu.WARM],
    }
    for purpose, found in statistics.items():
        recorder.measured(name, shape, purpose, "ours-cuda", "cuda", statistics=found)


def _alternate(calls: dict[str, Call], seconds: float) -> dict[str, Statistics]:
    return clock.alternate({name: (call, first_call(call)[1]) for name, call in calls.items()}, seconds)
