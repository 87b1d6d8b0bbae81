"""`gpu-check`: the one command for whoever has a GPU. Tests, parity, training, convolutions: one report, and a verdict.

The report is written anew after every stage, so that one that is cut short still has what came before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import TypeVar

import cnn
from benchmarks import accuracy, conv, conv_table, gpu, launch, output, shapes, side_by_side, train
from benchmarks.errors import BenchmarkError
from benchmarks.networks import Network
from benchmarks.providers import PROVIDERS
from benchmarks.recorder import Recorder
from benchmarks.rows import OK, Row
from benchmarks.selection import Candidate, named, select
from benchmarks.tables import Table
from benchmarks.telling import tell
from benchmarks.trainers import TRAINERS
from benchmarks.verify import Data

Item = TypeVar("Item")

# Seconds at which a stage begins nothing new; together under ten minutes.
TESTS, TRAIN, CONV, LAUNCH, ACCURACY = 240, 360, 510, 530, 550

OF_PASS, OF_STEP, OF_CALL = 0.1, 0.5, 0.2  # seconds of timing
QUICK = 0.02

MOST_WORKERS = 16  # processes, each of which has a context on the GPU

EMULATED = "EMULATED: this ran on a stand-in for a GPU. The results are checked; NO TIME IN THIS REPORT IS A GPU'S."


@dataclass
class Report:
    """What is known so far."""

    path: str
    quick: bool
    start: float = field(default_factory=monotonic)
    tests: str = "not run yet"
    failures: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def before(self, seconds: float, items: Iterable[Item], name: Callable[[Item], str]) -> Iterator[Item]:
        """Those whose turn comes within so many seconds of the start; the others are left out, and told."""
        for item in items:
            if monotonic() - self.start < seconds:
                yield item
            else:
                self.left_out.append(name(item))

    def note_state(self, when: str) -> None:
        self.states.append(f"{when}: {gpu.state() or 'nvidia-smi is not here to ask'}")

    def write(self) -> None:
        from cnn.info import describe

        about = Table("Machine", ("", ""), describe())
        parts = ["# gpu-check\n", *(f"**{line}**\n" for line in verdict(self)), about.markdown()]
        parts += ["### GPU\n", *(f"- {state}" for state in self.states), "", f"### Tests\n\n```\n{self.tests}\n```\n"]
        parts += [table.markdown() for table in self.tables]
        parts.append("### Rows\n\n```json")
        parts += [row.to_json() for row in self.rows]
        parts.append("```\n")
        Path(self.path).write_text("\n".join(parts), encoding="utf-8")


def verdict(report: Report) -> list[str]:
    """In words, what is right first."""
    wrong = [row for row in report.rows if row.status != OK and row.provider.startswith("ours")]
    right = [row for row in report.rows if row.status == OK and row.provider.startswith("ours")]
    lines = [EMULATED] if gpu.emulated() else []
    if report.failures or wrong:
        found = [*report.failures, f"{len(wrong)} results of ours are wrong"]
        found += [f"{row.layer} {row.purpose} ({row.provider}): {row.note}" for row in wrong]
        lines.append(f"WRONG: {'; '.join(found)}.")
    else:
        ran = report.tests.splitlines()[-1].strip("= ") if report.tests else ""
        lines.append(f"RIGHT so far as it ran: tests: {ran}; {len(right)} measurements of ours, every result verified.")
    if not gpu.emulated():
        lines.append(_speed(report.rows))
    if report.left_out:
        lines.append(
            f"LEFT OUT for want of time: {', '.join(report.left_out)}. A second run has more: its kernels are compiled."
        )
    return lines


def run(path: str, quick: bool) -> int:
    """The exit status: 1 where something of ours is wrong. Raises `BenchmarkError` without a GPU."""
    if (reason := gpu.missing()) is not None:
        raise BenchmarkError(f"gpu-check needs an NVIDIA GPU: {reason}")
    output.check(path)
    report = Report(path, quick)
    report.note_state("before")
    stages = (
        ("tests", _tests),
        ("compilation", _compile),
        ("training", _train),
        ("convolutions", _conv),
        ("launches", _launch),
        ("accuracy", _accuracy),
    )
    status = 0
    try:
        for name, stage in stages:
            tell(f"gpu-check: {name}, after {monotonic() - report.start:.0f} s")
            try:
                stage(report)
            except Exception as error:  # a stage that breaks off is a finding, and the others still run
                report.failures.append(f"{name} broke off: {type(error).__name__}: {error}")
            report.write()
    except KeyboardInterrupt:
        report.left_out.append("what came after Ctrl-C")
        status = 130
    report.note_state("after")
    report.write()
    for line in verdict(report):
        print(line)
    print(f"{monotonic() - report.start:.0f} s. The whole report, to send back: {path}")
    return status or int(any(line.startswith("WRONG") for line in verdict(report)))


def _tests(report: Report) -> None:
    """The tests that need a GPU, parity of every kernel with the reference among them."""
    folder = Path(cnn.__file__).parent.parent
    tests = folder / "tests" / "gpu"
    if not tests.is_dir():
        report.tests = "not run: they are in a checkout of the project, not in an installed copy"
        return
    chosen = [str(tests / "test_gpu_activation.py")] if report.quick else [str(tests)]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", *_side_by_side(), *chosen]
    # Warnings are errors in the tests, and some plugins that are there for other projects warn (pytest-benchmark does).
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    pipe = subprocess.PIPE
    try:
        done = subprocess.run(command, cwd=folder, env=bare, stdout=pipe, stderr=subprocess.STDOUT, timeout=TESTS)
    except subprocess.TimeoutExpired as error:
        lines = (error.stdout or b"").decode(errors="replace").splitlines()
        failed = [line for line in lines if " FAILED" in line or " ERROR" in line]
        passed = sum(" PASSED" in line for line in lines)
        report.tests = "\n".join([*failed, f"{passed} passed, {len(failed)} failed; stopped after {TESTS} s"])
        report.left_out.append("tests that were still to come: run python -m pytest -m gpu")
        if failed:
            report.failures.append("tests failed")
        return
    report.tests = "\n".join(done.stdout.decode(errors="replace").strip().splitlines()[-40:])
    if done.returncode:
        report.failures.append("tests failed")


def _side_by_side() -> list[str]:
    """Compiling the kernels takes most of the tests' time, and each process does it on one core."""
    return ["-p", "xdist", "-n", str(_workers())] if find_spec("xdist") else []


def _workers() -> int:
    return min(os.cpu_count() or 1, MOST_WORKERS)


def _compile(report: Report) -> None:
    """What the next stages measure, all cores at once: one after the other it would take most of their time."""
    if gpu.emulated() or report.quick:
        return
    networks = reversed(Network.all(False))  # the largest takes longest
    steps = [partial(_step_once, network, each.name) for network in networks for each in TRAINERS if _ours(each)]
    passes = [partial(_pass_once, case, each.name) for case in _cases(False) for each in PROVIDERS if _ours(each)]
    with ProcessPoolExecutor(_workers(), get_context("spawn")) as processes:
        for future in [processes.submit(task) for task in (*steps, *passes)]:
            future.result()


def _ours(candidate: Candidate) -> bool:
    return candidate.name.startswith("ours-cuda")


def _step_once(network: Network, name: str) -> None:
    trainer = named(TRAINERS, name)
    for images, dropout in ((train.VERIFIED_IMAGES, False), (network.batch, True)):
        training = trainer.start(network.build(dropout), train.RATE)
        training.step(*map(training.move, train.batch_of(network, images)))
    training.evaluate()
    training.predict(training.move(train.batch_of(network, 1)[0]))


def _pass_once(case: shapes.Case, name: str) -> None:
    provider = named(PROVIDERS, name)
    data = Data.of(case)
    for purpose in case.passes:
        if provider.refuses(case, purpose) is None:
            provider.prepare(case, purpose, data)()


def _cases(quick: bool) -> list[shapes.Case]:
    return shapes.cases(["lenet5" if quick else "small"], [], quick)


def _conv(report: Report) -> None:
    cases = _cases(report.quick)
    providers, lines = select(PROVIDERS, [], "cuda", False)
    recorder = Recorder("conv")
    chosen = report.before(CONV, cases, lambda case: case.name)
    conv.measure(recorder, chosen, providers, seconds=QUICK if report.quick else OF_PASS, quick=report.quick)
    about = [(provider.name, provider.about) for provider in providers]
    _keep(report, recorder, [_skipped(lines), *conv_table.tables(recorder.rows, about)])


def _launch(report: Report) -> None:
    recorder = Recorder("launch")
    chosen = report.before(LAUNCH, Network.all(report.quick), lambda network: f"launches of {network.name}")
    launch.measure(recorder, "cuda", _has_torch(), QUICK if report.quick else OF_CALL, chosen)
    _keep(report, recorder, side_by_side.tables(recorder.rows))


def _train(report: Report) -> None:
    trainers, lines = select(TRAINERS, [], "cuda", False)
    recorder = Recorder("train")
    seconds = QUICK if report.quick else OF_STEP
    chosen = report.before(TRAIN, Network.all(report.quick), lambda network: network.name)
    train.measure(recorder, chosen, trainers, seconds=seconds, with_memory=False)
    about = [(trainer.name, trainer.about) for trainer in trainers]
    _keep(report, recorder, [_skipped(lines), *side_by_side.tables(recorder.rows, about)])


def _accuracy(report: Report) -> None:
    if gpu.emulated():
        return
    trainers, _ = select(TRAINERS, [], "cuda", False)
    recorder = Recorder("train")
    in_time = report.before(ACCURACY, trainers, lambda trainer: f"time to an accuracy by {trainer.name}")
    accuracy.measure(recorder, in_time, report.quick)
    _keep(report, recorder, side_by_side.tables(recorder.rows))


def _keep(report: Report, recorder: Recorder, tables: Sequence[Table]) -> None:
    report.rows += recorder.rows
    report.tables += [table for table in tables if table.lines]


def _skipped(lines: Sequence[str]) -> Table:
    return Table("Not there", ("provider", "why"), [line.split(" skipped: ") for line in lines])


def _has_torch() -> bool:
    return any(trainer.missing() is None for trainer in TRAINERS if trainer.name == "torch-cuda")


def _speed(rows: Sequence[Row]) -> str:
    duels = [duel for duel in conv_table.duels([row for row in rows if row.command == "conv"]) if duel.ours]
    met = [(duel, duel.torch) for duel in duels if duel.torch is not None]
    if not met:
        return "SPEED: PyTorch was not there to compare with."
    faster = sum(duel.ratio(torch) > 1 for duel, torch in met)
    return f"SPEED: in {faster} of {len(met)} convolution passes ours is faster than PyTorch in float32."
