"""`conv`: every pass of every layer by every provider; verified, then timed."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks import clock, gpu, limits
from benchmarks.clock import Call, Statistics, first_call
from benchmarks.counts import compulsory_bytes, flops
from benchmarks.providers.provider import Provider
from benchmarks.recorder import Recorder
from benchmarks.rows import FAILED, WRONG
from benchmarks.shapes import KERNEL_GRADIENT, Case
from benchmarks.telling import tell
from benchmarks.verify import Data, Expected, mistake


def measure(
    recorder: Recorder, cases: Iterable[Case], providers: Sequence[Provider], *, seconds: float, quick: bool
) -> None:
    """The limits of the machine, and then a row for each layer, pass and provider that computes it."""
    limits.measure(recorder, sorted({provider.device for provider in providers}), seconds, quick)
    on_gpu = providers[0].device == "cuda"
    if on_gpu and (state := gpu.state()):
        tell(f"GPU before: {state}")
    for case in cases:
        data = Data.of(case)
        expected = Expected(case, data)
        tell(f"{case.name} {case.shape}: verified on {expected.extent}")
        for purpose in case.passes:
            measure_pass(recorder, case, purpose, providers, data, expected, seconds)
    if on_gpu and (state := gpu.state()):
        tell(f"GPU after: {state}")


def measure_pass(
    recorder: Recorder,
    case: Case,
    purpose: str,
    providers: Sequence[Provider],
    data: Data,
    expected: Expected,
    seconds: float,
) -> None:
    of_pass = {"images": case.images, "flops": flops(case), "bytes": compulsory_bytes(case, purpose)}
    taking_part = [provider for provider in providers if provider.refuses(case, purpose) is None]
    right: dict[str, tuple[Call, float]] = {}
    truth = expected.of(purpose)
    with _no_collection():
        for provider in taking_part:
            try:
                call, first, wrong = _verified(provider, case, purpose, data, expected, truth)
            except Exception as error:  # whatever a provider throws costs it its row, not the others theirs
                wrong, status = f"{type(error).__name__}: {error}".splitlines()[0], FAILED
            else:
                status = WRONG
                if wrong is None:
                    right[provider.name] = call, first
                    continue
            tell(f"{case.name} {purpose}: {provider.name} {status}: {wrong}")
            condition = gpu.COLD if provider.device == "cuda" else ""
            _add(recorder, case, purpose, provider, of_pass, condition=condition, status=status, note=wrong)
        others = clock.Others()
        found = _timed(right, taking_part, seconds)
        if disturbed := others.note():
            tell(f"{case.name} {purpose}: {disturbed}")
        for name, states in found.items():
            provider = next(each for each in taking_part if each.name == name)
            checked = gpu.cross_check(right[name][0]) if provider.device == "cuda" else ""
            for condition, statistics in states.items():
                note = "; ".join(filter(None, (disturbed, checked if condition == gpu.WARM else "")))
                _add(recorder, case, purpose, provider, of_pass, condition=condition, note=note, statistics=statistics)


def _verified(
    provider: Provider, case: Case, purpose: str, data: Data, expected: Expected, truth: Any
) -> tuple[Call, float, str | None]:
    """The call, the seconds of the first one, and what is wrong with its result."""
    call = provider.prepare(case, purpose, data)
    result, first = first_call(gpu.finished(call) if provider.device == "cuda" else call)
    if purpose == KERNEL_GRADIENT and expected.few is not data:
        result = provider.prepare(case, purpose, expected.few)()
    actual = expected.selected(purpose, provider.to_numpy(result))
    return call, first, mistake(actual, truth, expected.length(purpose), provider.precision)


def _timed(
    calls: dict[str, tuple[Call, float]], providers: Sequence[Provider], seconds: float
) -> dict[str, dict[str, Statistics]]:
    if any(provider.device == "cuda" for provider in providers):
        return gpu.alternate(calls, seconds)
    return {name: {"": statistics} for name, statistics in clock.alternate(calls, seconds).items()}


def _add(
    recorder: Recorder, case: Case, purpose: str, provider: Provider, of_pass: dict[str, Any], **more: Any
) -> None:
    more["precision"] = provider.precision
    recorder.measured(case.name, case.shape, purpose, provider.name, provider.device, **of_pass, **more)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage is collected between passes, not inside a run."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
