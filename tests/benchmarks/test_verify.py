"""Verify, then time: whoever is wrong is reported, and gets no time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import conv, verify
from benchmarks.providers.ours_cpu import OursCPU
from benchmarks.providers.provider import Provider
from benchmarks.recorder import Recorder
from benchmarks.rows import FAILED, OK, WRONG
from benchmarks.shapes import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, PASSES, Case
from benchmarks.verify import Data, Expected, mistake

CASE = Case("case", (5, 3, 7, 6), (4, 3, 3, 3), stride=2, padding=1)


class Changed(Provider):
    """Ours, with a result that is changed."""

    about = "wrong on purpose"

    def __init__(self, name: str, change: Callable[[Any], Any]) -> None:
        self.name, self._change = name, change

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        call = OursCPU().prepare(case, purpose, data)
        return lambda: self._change(call().copy())


def one_number_off(result: Any) -> Any:
    """By what a forgotten product of two numbers in [-1, 1] comes to."""
    result.flat[-1] += 0.25
    return result


def refusing(result: Any) -> Any:
    raise RuntimeError("no memory left\nsecond line")


def nan(result: Any) -> Any:
    result.flat[0] = np.nan
    return result


def statuses(providers: list[Provider], purpose: str, case: Case = CASE) -> dict[str, Any]:
    recorder, data = Recorder("conv"), Data.of(case)
    conv.measure_pass(recorder, case, purpose, providers, data, Expected(case, data), seconds=0.001)
    return {row.provider: row for row in recorder.rows}


@pytest.mark.parametrize("purpose", PASSES)
def test_wrong_providers_are_caught_and_get_no_time(purpose: str) -> None:
    providers = [
        Changed("off", one_number_off),
        Changed("nan", nan),
        Changed("turned", lambda result: result[..., ::-1]),
        Changed("flat", lambda result: result.reshape(-1)),
        Changed("double", lambda result: result.astype(np.float64)),
        Changed("refusing", refusing),
        OursCPU(),
    ]
    rows = statuses(providers, purpose)
    for provider in providers[:-1]:
        row = rows[provider.name]
        assert row.status == (FAILED if provider.name == "refusing" else WRONG)
        assert (row.median, row.p20, row.p80, row.first, row.runs) == (None, None, None, None, 0)
    assert "is off by" in rows["off"].note
    assert "off by nan" in rows["nan"].note
    assert "has shape" in rows["flat"].note
    assert rows["double"].note == "its result is float64, not float32"
    assert rows["refusing"].note == "RuntimeError: no memory left"
    assert rows["ours"].status == OK
    assert rows["ours"].median > 0


@pytest.mark.parametrize("purpose", PASSES)
def test_on_a_few_images_an_error_in_the_last_one_shows(purpose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MULTIPLY_ADDS", 2 * 4 * 4 * 3 * 27 * 4 // 4)  # of some images, not all
    data = Data.of(CASE)
    expected = Expected(CASE, data)
    assert 0 < len(expected.images) < CASE.images
    assert {0, CASE.images - 1} <= set(expected.images)
    assert expected.extent == f"{len(expected.images)} of 5 images"
    rows = statuses([OursCPU(), Changed("off", one_number_off)], purpose)
    assert (rows["ours"].status, rows["off"].status) == (OK, WRONG)


def test_a_kernel_gradient_that_leaves_out_an_image_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MULTIPLY_ADDS", 1000)

    class LeavesOutTheFirst(OursCPU):
        name = "leaves out"

        def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
            grad_output = data.grad_output.copy()
            grad_output[0] = 0
            return super().prepare(case, purpose, Data(data.x, data.weight, data.bias, grad_output))

    rows = statuses([LeavesOutTheFirst(), OursCPU()], KERNEL_GRADIENT)
    assert (rows["leaves out"].status, rows["ours"].status) == (WRONG, OK)


def test_lengths_of_the_sums() -> None:
    # Output 4x3: 27 products and the bias; 9 taps of 4 filters; 5 images of 12 pixels.
    expected = Expected(CASE, Data.of(CASE))
    assert [expected.length(purpose) for purpose in (FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT)] == [28, 36, 60]


def test_what_is_allowed() -> None:
    expected = np.array([0.0, 100.0])
    # 2^-23 * 16 is 1.9e-6: of 1 + 0, and of 1 + 100.
    near = (expected + np.array([1.8e-6, 1.8e-4])).astype(np.float32)
    assert mistake(near, expected, 16, "float32") is None
    assert mistake((expected + np.array([2.1e-6, 0])).astype(np.float32), expected, 16, "float32") is not None
    assert mistake((expected + np.array([0.01, 0])).astype(np.float32), expected, 16, "tf32") is None
    assert mistake((expected + np.array([0.25, 0])).astype(np.float32), expected, 16, "tf32") is not None


def test_the_same_data_for_everyone() -> None:
    first, second = Data.of(CASE), Data.of(CASE)
    for name in ("x", "weight", "bias", "grad_output"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == np.float32
        assert np.abs(one).max() <= 1
        np.testing.assert_array_equal(one, other)
