"""Losses in the simulator: one block and several, every reduction, labels that are none."""

from __future__ import annotations

import numpy as np
import pytest
from parity import check_parity, integers, on_device, uniform

LABELLED = {"softmax_cross_entropy": "logits", "hinge": "scores"}


def labels(images: int, classes: int, dtype: type = np.int64) -> np.ndarray:
    return np.random.default_rng(images).integers(0, classes, images).astype(dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("images", "classes"), [(3, 5), (17, 2), (2, 33), (1, 1), (0, 3)])
@pytest.mark.parametrize("name", LABELLED)
def test_labelled(name: str, images: int, classes: int, reduction: str) -> None:
    # 17 images are more than one simulated block takes, 33 classes more than a warp has lanes.
    given = {LABELLED[name]: uniform(images, classes), "labels": labels(images, classes), "reduction": reduction}
    check_parity(name, given, length=256)


def test_hinge_exactly() -> None:
    given = {"scores": integers(4, 5), "labels": labels(4, 5), "reduction": "none"}
    for margin in (1.0, 2.0, -1.0):
        check_parity("hinge", {**given, "margin": margin})


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_any_integer_type(name: str, dtype: type) -> None:
    check_parity(name, {LABELLED[name]: uniform(3, 4), "labels": labels(3, 4, dtype)}, length=64)


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
@pytest.mark.parametrize("shape", [(), (0, 2), (7,), (3, 2, 2), (1100,)])
def test_mean_squared_error(shape: tuple[int, ...], reduction: str) -> None:
    # 1100 elements are more than one simulated block takes.
    given = {"y": uniform(*shape), "target": uniform(*shape, seed=1), "reduction": reduction}
    check_parity("mean_squared_error", given, length=4096)


def test_sums_of_integers_exactly() -> None:
    for shape in ((40,), (1100,)):
        given = {"y": integers(*shape), "target": integers(*shape, seed=1), "reduction": "sum"}
        check_parity("mean_squared_error", given)
