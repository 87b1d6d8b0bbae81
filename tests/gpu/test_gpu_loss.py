"""Losses on a GPU: batches in one block and in several, labels that are none, nothing read back."""

from __future__ import annotations

import numpy as np
import pytest
from parity import check_parity, in_reference, integers, on_device, to_device, to_host, uniform
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.gpu

LABELLED = {"softmax_cross_entropy": "logits", "hinge": "scores"}


def labels(images: int, classes: int, dtype: type = np.int64) -> np.ndarray:
    return np.random.default_rng(images).integers(0, classes, images).astype(dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("images", "classes"),
    # A step's batches; around the 256 images that one block takes; more classes than a block's warps take; no images.
    [(64, 10), (128, 10), (1, 1), (256, 3), (257, 3), (1000, 2), (20, 1000), (0, 10)],
)
@pytest.mark.parametrize("name", LABELLED)
def test_labelled(name: str, images: int, classes: int, reduction: str) -> None:
    given = {LABELLED[name]: uniform(images, classes), "labels": labels(images, classes), "reduction": reduction}
    check_parity(name, given, length=4096)


@pytest.mark.parametrize("images", [100, 300])
def test_hinge_exactly(images: int) -> None:
    given = {"scores": integers(images, 10), "labels": labels(images, 10), "reduction": "sum"}
    check_parity("hinge", {**given, "margin": 2.0})


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_any_integer_type(name: str, dtype: type) -> None:
    check_parity(name, {LABELLED[name]: uniform(17, 10), "labels": labels(17, 10, dtype)}, length=64)


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_that_is_no_class_makes_its_image_nan(name: str) -> None:
    # The host raises an error; here the labels are never read back.
    wrong = np.array([0, -1, 1, 4, 2**32 + 2, -(2**63)])
    loss, grad = on_device(name, {LABELLED[name]: uniform(6, 4), "labels": wrong, "reduction": "none"})
    assert np.isnan(loss).tolist() == [False, True, False, True, True, True]
    assert np.isfinite(grad[[0, 2]]).all()
    assert np.isnan(grad).any(axis=1).tolist() == np.isnan(loss).tolist()
    assert np.isnan(on_device(name, {LABELLED[name]: uniform(6, 4), "labels": wrong})[0])
    # A type that no kernel is made for: nothing may become a class on the way to another.
    unsigned = np.array([3, 256, 2**32, 2**63, 2**64 - 1], np.uint64)
    loss, _ = on_device(name, {LABELLED[name]: uniform(5, 4), "labels": unsigned, "reduction": "none"})
    assert np.isnan(loss).tolist() == [False, True, True, True, True]


def test_extreme_scores() -> None:
    scores = np.array([[1e4, 0, -1e4], [1e4, 0, -1e4], [1.5e38, -1.5e38, 0]], np.float32)
    check_parity("softmax_cross_entropy", {"logits": scores, "labels": np.array([0, 2, 0]), "reduction": "none"})


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("place", [0, 1, 33])
def test_nan_shows_in_the_loss(name: str, place: int) -> None:
    scores = uniform(2, 34)
    scores[1, place] = np.nan
    loss, _ = on_device(name, {LABELLED[name]: scores, "labels": np.array([1, 1]), "reduction": "none"})
    assert np.isnan(loss).tolist() == [False, True]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (0, 2), (64, 10), (16384,), (16385,), (40, 1000)])
def test_mean_squared_error(shape: tuple[int, ...], reduction: str) -> None:
    given = {"y": integers(*shape), "target": integers(*shape, seed=1), "reduction": reduction}
    # Exact, but for the quotient of the mean.
    check_parity("mean_squared_error", given, length=4 if reduction == "mean" else 0)


@pytest.mark.parametrize("name", LABELLED)
def test_inputs_in_any_layout(name: str) -> None:
    scores, chosen = uniform(40, 22), labels(40, 11)
    with kernels.backend("cuda"):
        loss, grad = getattr(kernels, name)(to_device(scores)[::-1, 1::2], to_device(chosen)[::-1])
    expected = in_reference(name, {LABELLED[name]: scores[::-1, 1::2], "labels": chosen[::-1]})
    assert_close(to_host(loss), expected[0], length=64)
    assert_close(to_host(grad), expected[1], length=64)


@pytest.mark.parametrize("images", [128, 1000])
@pytest.mark.parametrize("name", LABELLED)
def test_two_runs_give_the_same_bits(name: str, images: int) -> None:
    given = {LABELLED[name]: uniform(images, 10), "labels": labels(images, 10)}
    first, second = on_device(name, given), on_device(name, given)
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]
