"""Which device a run gets."""

from __future__ import annotations

import pytest

from cnn.runs import device
from cnn.runs.config import ConfigError
from cnn.runs.device import choose_device


@pytest.mark.parametrize(
    ("wanted", "usable", "chosen"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_auto_takes_the_gpu_if_it_can_be_used(
    monkeypatch: pytest.MonkeyPatch, wanted: str, usable: bool, chosen: str
) -> None:
    monkeypatch.setattr(device, "gpu_status", lambda: (usable, "words"))
    assert choose_device(wanted) == chosen


def test_cuda_without_a_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpu_status", lambda: (False, "the card is in the drawer"))
    with pytest.raises(ConfigError, match="--device cuda: the card is in the drawer"):
        choose_device("cuda")
