"""Evaluation: numbers worked out by hand."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest

import cnn
from cnn.batch import Given
from cnn.data import Dataset, Normalize
from cnn.runs.evaluate import Evaluation, evaluate, evaluation_batches
from cnn.runs.forward import Forward

# Softmax of these: (1/4, 3/4), (1/2, 1/2), (8/9, 1/9), (1/10, 9/10).
LOGITS = np.array([[0, log(3)], [5, 5], [log(8), 0], [0, log(9)]], dtype=np.float32)
LABELS = np.array([1, 0, 1, 0])


class Fixed(cnn.Layer):
    """Puts out what it is given, whatever that is, and remembers the mode it was asked in."""

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def forward(self, x: Any) -> Any:
        self.modes.append(self.training)
        return x


def judged() -> Evaluation:
    return evaluate(Forward(Fixed()), [Given(LOGITS[:3], LABELS[:3]), Given(LOGITS[3:], LABELS[3:])], 2)


def test_predictions_probabilities_and_losses() -> None:
    evaluation = judged()
    assert evaluation.labels.tolist() == LABELS.tolist()
    assert evaluation.predicted.tolist() == [1, 0, 0, 1]  # the first wins a tie
    assert evaluation.probability == pytest.approx([3 / 4, 1 / 2, 8 / 9, 9 / 10], rel=1e-6)
    assert evaluation.losses == pytest.approx([-log(3 / 4), -log(1 / 2), -log(1 / 9), -log(1 / 10)], rel=1e-6)


def test_sums_of_them() -> None:
    evaluation = judged()
    assert (evaluation.images, evaluation.correct, evaluation.accuracy) == (4, 2, 0.5)
    assert evaluation.loss == pytest.approx((log(4 / 3) + log(2) + log(9) + log(10)) / 4, rel=1e-6)
    assert evaluation.confusion.tolist() == [[1, 1], [1, 1]]
    assert evaluation.mistakes.tolist() == [3, 2]  # log 10 before log 9


def test_confusion_has_a_row_for_each_true_class() -> None:
    labels, predicted = np.array([0, 0, 0, 2]), np.array([1, 1, 0, 2])
    evaluation = Evaluation(labels, predicted, np.ones(4), np.zeros(4), 3)
    assert evaluation.confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("training", [True, False])
def test_runs_in_eval_mode_and_puts_the_mode_back(training: bool) -> None:
    model = Fixed()
    model.train(training)
    evaluate(Forward(model), [Given(LOGITS, LABELS)], 2)
    assert model.modes == [False]
    assert model.training is training


def test_the_mode_is_put_back_after_an_error() -> None:
    model = Fixed()
    model.train()
    with pytest.raises(ValueError, match=r"must return shape \(4, 3\) for 4 images, got \(4, 2\)"):
        evaluate(Forward(model), [Given(LOGITS, LABELS)], 3)
    assert model.training


def test_nothing_to_evaluate() -> None:
    with pytest.raises(ValueError, match="no images"):
        evaluate(Forward(Fixed()), [], 2)


def test_outputs_that_overflow_give_a_loss_that_shows_it() -> None:
    huge = np.array([[np.inf, 0]], dtype=np.float32)
    assert np.isnan(evaluate(Forward(Fixed()), [Given(huge, LABELS[:1])], 2).loss)


def test_batches_keep_order_and_leave_nothing_out() -> None:
    images = np.arange(300, dtype=np.float32).reshape(300, 1, 1, 1)
    dataset = Dataset(images, np.arange(300) % 2, ("a", "b"))
    batches = evaluation_batches(dataset, Normalize((1.0,), (2.0,)))
    seen = np.concatenate([x for x, _ in batches.epoch(0)])
    assert np.array_equal(seen, (images - 1) / 2)
