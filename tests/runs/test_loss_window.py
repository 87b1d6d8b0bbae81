"""The window of losses that wait to be reported."""

from __future__ import annotations

import numpy as np
import pytest

from cnn.runs.losses import LossWindow, NonFiniteError


class Steps:
    """A training step that gives the losses it is told to."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.window = LossWindow(lambda count: np.array(self.done[len(self.done) - count :], np.float32))

    def run(self, loss: float, images: int) -> None:
        self.done.append(loss)
        self.window.append(images)


def steps(*losses: float) -> Steps:
    made = Steps()
    for number, loss in enumerate(losses):
        made.run(loss, 10 + number)
    return made


def window(*losses: float) -> LossWindow:
    return steps(*losses).window


def test_holds_losses_and_images_in_order() -> None:
    losses, images = window(0.5, 0.25).read()
    assert losses.tolist() == [0.5, 0.25]
    assert images.tolist() == [10, 11]


def test_starts_again_when_cleared() -> None:
    used = steps(np.nan, 1.0)
    used.window.clear()
    used.run(3.0, 7)
    used.window.check(1)
    assert [part.tolist() for part in used.window.read()] == [[3.0], [7]]


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
    resumed = Steps()
    resumed.window.load_state_dict(window(0.5, 0.25).state_dict())
    resumed.run(0.125, 3)
    assert [part.tolist() for part in resumed.window.read()] == [[0.5, 0.25, 0.125], [10, 11, 3]]
    resumed.window.check(7)
    resumed.run(np.nan, 3)
    with pytest.raises(NonFiniteError, match="the loss is nan at step 8"):
        resumed.window.check(8)
