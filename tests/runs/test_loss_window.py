"""The window of losses that wait to be reported."""

from __future__ import annotations

import numpy as np
import pytest

from cnn.runs.losses import LossWindow, NonFiniteError


def window(*losses: float) -> LossWindow:
    made = LossWindow(4)
    for number, loss in enumerate(losses):
        made.append(np.array(loss, dtype=np.float32), 10 + number)
    return made


def test_holds_losses_and_images_in_order() -> None:
    losses, images = window(0.5, 0.25).read()
    assert losses.tolist() == [0.5, 0.25]
    assert images.tolist() == [10, 11]


def test_starts_again_when_cleared() -> None:
    used = window(np.nan, 1.0)
    used.clear()
    used.append(np.array(3.0, dtype=np.float32), 7)
    used.check(1)
    assert [part.tolist() for part in used.read()] == [[3.0], [7]]


@pytest.mark.parametrize(
    ("losses", "last", "message"),
    [
        ((1, 2, np.nan, np.inf), 43, "the loss is nan at step 42"),
        ((-np.inf, 2), 43, "the loss is -inf at step 42"),
    ],
)
def test_names_the_first_step_that_went_wrong(losses: tuple[float, ...], last: int, message: str) -> None:
    with pytest.raises(NonFiniteError, match=message):
        window(*losses).check(last)


def test_goes_on_from_a_checkpoint() -> None:
    resumed = window(9.0, 9.0, 9.0)
    resumed.load_state_dict(window(0.5, 0.25).state_dict())
    resumed.append(np.array(0.125, dtype=np.float32), 3)
    assert [part.tolist() for part in resumed.read()] == [[0.5, 0.25, 0.125], [10, 11, 3]]
