"""`compile`: how long one waits before the first step, with nothing compiled and with everything in the cache.

Each figure is taken in a process of its own, with a cache folder of its own: `python -m benchmarks.compilation WHAT
NETWORK MOST_KERNELS` prints the seconds of its parts as JSON. The CUDA kernels are compiled without a GPU.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.clock import Statistics
from benchmarks.recorder import Recorder
from benchmarks.rows import FAILED
from benchmarks.selection import named
from benchmarks.telling import tell

CPU, CUDA, TORCH, COMPILED = "ours", "ours-cuda", "torch", "torch-compile"

# Of the CUDA kernels, which are compiled for one target at a time: an H100's.
SM = 90

# With --quick, not all kernels of a network.
MOST_KERNELS, QUICK_KERNELS = 1000, 3


def measure(recorder: Recorder, networks: Sequence[str], compiled: bool, repeats: int, quick: bool) -> None:
    most = QUICK_KERNELS if quick else MOST_KERNELS
    whats = [CPU, *([CUDA] if find_spec("numba_cuda") else []), *([TORCH] if find_spec("torch") else [])]
    for what, needed in ((CUDA, "numba-cuda"), (TORCH, "torch")):
        if what not in whats:
            tell(f"{what} skipped: {needed} not installed")
    if compiled and TORCH in whats:
        whats.append(COMPILED)
    for network in networks:
        for what in whats:
            _measure(recorder, network, what, repeats, most)


def _measure(recorder: Recorder, network: str, what: str, repeats: int, most: int) -> None:
    """Cold and warm by turns, each time with a new folder."""
    found: dict[str, list[float]] = {}
    try:
        for _ in range(repeats):
            with TemporaryDirectory() as folder:
                for state in ("cold", "warm"):
                    for part, seconds in _in_process(what, network, most, Path(folder)).items():
                        found.setdefault(f"{part}, {state} cache", []).append(seconds)
    except OSError as error:
        tell(f"{what} {network} {FAILED}: {error}")
        recorder.measured(network, f"sm_{SM}" if what == CUDA else "", "compilation", what, "cpu", status=FAILED,
                          note=str(error).splitlines()[-1])  # fmt: skip
        return
    for purpose, times in found.items():
        statistics = Statistics.of(times, times[0])
        recorder.measured(network, f"sm_{SM}" if what == CUDA else "", purpose, what, "cpu", statistics=statistics)


def _in_process(what: str, network: str, most: int, folder: Path) -> dict[str, float]:
    """Raises OSError with what the process said last, where it failed."""
    caches = {"NUMBA_CACHE_DIR": "numba", "CNN_CUDA_CACHE": "cuda", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **{name: str(folder / part) for name, part in caches.items()},
    }
    command = [sys.executable, "-m", "benchmarks.compilation", what, network, str(most)]
    done = run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip() or f"exit status {done.returncode}")
    return {str(part): float(seconds) for part, seconds in json.loads(done.stdout).items()}


def main(what: str, name: str, most: int) -> None:
    print(json.dumps(_kernels(name, most) if what == CUDA else _steps(what, name)))


def _kernels(name: str, most: int) -> dict[str, float]:
    """Of a run of `cnn train`, the steps and the evaluation, one after the other; no more than `most`."""
    start = perf_counter()
    compile_kernel = import_module("cnn.kernels.cuda.compiler").compile_kernel
    launches = import_module("cnn.kernels.cuda.codegen.launches")
    suite, evaluated = import_module("cnn.kernels.suites").SUITES[name], import_module("cnn.runs.evaluate").BATCH_SIZE
    works = [*launches.training_step(suite), *launches.evaluation(suite, evaluated)]
    kernels = list(dict.fromkeys(work.kernel for work in works if work.kernel is not None))[:most]
    imported = perf_counter()
    for kernel in kernels:
        compile_kernel(kernel, SM)
    return {"imports": imported - start, f"{len(kernels)} kernels": perf_counter() - imported}


def _steps(what: str, name: str) -> dict[str, float]:
    start = perf_counter()
    from benchmarks.networks import Network
    from benchmarks.train import RATE, batch_of
    from benchmarks.trainers import TRAINERS

    trainer = named(TRAINERS, what)
    if what != CPU:
        import_module("torch")
    imported = perf_counter()
    network = Network.named(name)
    training = trainer.start(network.build(), RATE)
    x, labels = (training.move(array) for array in batch_of(network, network.batch))
    ready = perf_counter()
    training.step(x, labels)
    first = perf_counter()
    training.step(x, labels)
    return {"imports": imported - start, "first step": first - ready, "second step": perf_counter() - first}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
