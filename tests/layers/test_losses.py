"""Losses: values and gradients against PyTorch, and the order of calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import WHY_TORCH, uniform
from tolerances import assert_close

import cnn

LABELS = np.array([2, 0, 4, 1, 2, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "MSELoss", "HingeLoss"])
def test_against_torch(name: str, reduction: str, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason=WHY_TORCH)
    output = uniform(0, 6, 5, dtype=dtype)
    target = uniform(1, 6, 5, dtype=dtype) if name == "MSELoss" else LABELS
    criterion = getattr(cnn, name)(reduction=reduction)
    loss = criterion(output, target)
    gradient = criterion.backward()

    output_peer = torch.from_numpy(output.copy()).requires_grad_()
    # PyTorch calls the hinge loss MultiMarginLoss, and divides it by the number of classes.
    peer = torch.nn.MultiMarginLoss if name == "HingeLoss" else getattr(torch.nn, name)
    loss_peer = peer(reduction=reduction)(output_peer, torch.from_numpy(target)) * (5 if name == "HingeLoss" else 1)
    loss_peer.sum().backward()
    assert_close(loss, loss_peer.detach().numpy(), length=64)
    assert_close(gradient, output_peer.grad.numpy(), length=64)
    assert loss.dtype == gradient.dtype == dtype


def test_values_by_hand() -> None:
    scores = np.array([[3, 1, 2.5], [0, 0, 0]])
    # Image 0, label 0: max(0, 1 + 1 - 3) + max(0, 1 + 2.5 - 3) = 0.5. Image 1, label 2: 1 + 1.
    hinge = cnn.HingeLoss()
    assert float(hinge(scores, np.array([0, 2]))) == 1.25
    np.testing.assert_array_equal(hinge.backward(), [[-0.5, 0, 0.5], [0.5, 0.5, -1]])
    # margin 2: 0 + 1.5 and 2 + 2.
    assert float(cnn.HingeLoss(margin=2.0)(scores, np.array([0, 2]))) == 2.75
    assert float(cnn.CrossEntropyLoss()(np.zeros((2, 4)), np.array([0, 3]))) == pytest.approx(np.log(4))
    squared = cnn.MSELoss()
    assert float(squared(np.array([1.0, 2.0]), np.array([0.0, 4.0]))) == 2.5
    np.testing.assert_array_equal(squared.backward(), [1, -2])


@pytest.mark.parametrize(
    "criterion", [cnn.CrossEntropyLoss(), cnn.MSELoss(), cnn.HingeLoss()], ids=lambda c: type(c).__name__
)
def test_backward_gives_each_gradient_once(criterion: cnn.Loss) -> None:
    with pytest.raises(RuntimeError, match=f"{type(criterion).__name__}: backward needs a loss computed before it"):
        criterion.backward()
    output = uniform(0, 3, 4)
    criterion(output, output if isinstance(criterion, cnn.MSELoss) else np.array([0, 1, 2]))
    assert criterion.backward().shape == (3, 4)
    with pytest.raises(RuntimeError, match="backward needs a loss"):
        criterion.backward()


@pytest.mark.parametrize(
    ("criterion", "target"),
    [(cnn.CrossEntropyLoss(), np.array([0, 5, 1])), (cnn.CrossEntropyLoss("average"), np.array([0, 1, 1]))],
)
def test_wrong_labels_and_reductions(criterion: cnn.Loss, target: Any) -> None:
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: .*got (5 for image 1|'average')"):
        criterion(uniform(0, 3, 4), target)
