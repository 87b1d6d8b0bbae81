"""report.png: each part shows what it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from cnn.data import Dataset
from cnn.runs.evaluate import Evaluation
from cnn.runs.report import draw_report, save_report

METRICS = [
    {"kind": "step", "step": 100, "epoch": 1, "loss": 0.9},
    {"kind": "step", "step": 200, "epoch": 1, "loss": 0.6},
    {"kind": "epoch", "step": 260, "epoch": 1, "loss": 0.5, "test_loss": 0.4, "accuracy": 0.5},
    {"kind": "step", "step": 300, "epoch": 2, "loss": 0.3},
    {"kind": "epoch", "step": 520, "epoch": 2, "loss": 0.2, "test_loss": 0.1, "accuracy": 0.75},
]


def judged(labels: list[int], predicted: list[int], classes: int = 3) -> Evaluation:
    """The last image has the greatest loss."""
    count = len(labels)
    return Evaluation(
        np.array(labels), np.array(predicted), np.linspace(0.5, 0.8, count), np.linspace(1, 2, count), classes
    )


def dataset(count: int, channels: int = 1, classes: int = 3, dtype: str = "uint8") -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (count, channels, 5, 6)).astype(dtype)
    return Dataset(images, np.zeros(count, dtype=np.int64), tuple(f"class {k}" for k in range(classes)))


def weights(*shape: int) -> dict[str, Any]:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return {"0.bias": np.ones(3, dtype=np.float32), "0.weight": values, "3.weight": np.ones((2, 2, 2, 2))}


def draw(path: Path, **changes: Any) -> tuple[list[str], dict[str, Axes]]:
    """Draw and save a report: the titles of its parts, and its axes by the first word of theirs."""
    arguments: dict[str, Any] = {
        "title": "net on shapes",
        "metrics": METRICS,
        "state_dict": weights(6, 1, 3, 3),
        "evaluation": judged([0, 1, 2, 2], [0, 1, 1, 0]),
        "test_images": dataset(4),
    }
    figure = draw_report(**{**arguments, **changes})
    save_report(path, figure)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == tuple(round(100 * inches) for inches in figure.get_size_inches())
    titles = [part.get_suptitle() for part in (figure, *figure.subfigs)]
    return titles, {axes.get_title().partition(" ")[0]: axes for part in figure.subfigs for axes in part.axes}


def points(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}


def test_curves(tmp_path: Path) -> None:
    titles, axes = draw(tmp_path / "report.png")
    assert titles[0] == "net on shapes"
    assert points(axes["Loss"]) == {
        "training": [(100, 0.9), (200, 0.6), (300, 0.3)],
        "test": [(260, 0.4), (520, 0.1)],
    }
    assert list(points(axes["Accuracy"]).values()) == [[(1, 0.5), (2, 0.75)]]


def test_epochs_too_short_for_a_line_have_a_curve_all_the_same(tmp_path: Path) -> None:
    _, axes = draw(tmp_path / "report.png", metrics=[line for line in METRICS if line["kind"] == "epoch"])
    assert points(axes["Loss"])["training"] == [(260, 0.5), (520, 0.2)]


def test_a_loss_of_zero_has_no_logarithm(tmp_path: Path) -> None:
    _, axes = draw(tmp_path / "report.png", metrics=[{**METRICS[2], "test_loss": 0.0}])
    assert axes["Loss"].get_yscale() == "linear"


@pytest.mark.parametrize(("filters", "channels"), [(6, 1), (5, 2), (100, 1), (7, 3)])
def test_filters(tmp_path: Path, filters: int, channels: int) -> None:
    state_dict = weights(filters, channels, 3, 4)
    _, axes = draw(tmp_path / "report.png", state_dict=state_dict)
    shown = min(filters, 64)
    number = f"{shown} of {filters}" if shown < filters else str(filters)
    assert axes["Filters"].get_title() == f"Filters of the first layer (0.weight): {number}, 3x4"
    # Every pixel is 8x8 in the mosaic, after two of the gap; the third filter is in the first row.
    (image,) = axes["Filters"].images
    mosaic = np.ma.filled(image.get_array(), np.nan)
    third = mosaic[2:26:8, 2 + 2 * 34 : 2 + 2 * 34 + 32 : 8]
    filter_ = state_dict["0.weight"][2] / np.abs(state_dict["0.weight"][2]).max()
    expected = (filter_.transpose(1, 2, 0) + 1) / 2 if channels == 3 else filter_[0]
    assert third == pytest.approx(expected, rel=1e-6)


def test_no_filters(tmp_path: Path) -> None:
    _, axes = draw(tmp_path / "report.png", state_dict={"0.weight": np.ones((3, 4), dtype=np.float32)})
    assert axes["No"].get_title() == "No layer with two-dimensional filters"


def test_confusion_matrix(tmp_path: Path) -> None:
    _, axes = draw(tmp_path / "report.png", evaluation=judged([0, 0, 0, 2], [0, 1, 1, 2]))
    confusion = axes["Confusion"]
    numbers = {text.get_position(): text.get_text() for text in confusion.texts}
    assert numbers == {(0, 0): "1", (1, 0): "2", (2, 2): "1"}  # (column, row)
    assert [label.get_text() for label in confusion.get_yticklabels()] == ["class 0", "class 1", "class 2"]


def test_many_classes(tmp_path: Path) -> None:
    evaluation = judged([0, 99], [0, 50], classes=100)
    _, axes = draw(tmp_path / "report.png", evaluation=evaluation, test_images=dataset(2, classes=100))
    assert not axes["Confusion"].texts
    assert axes["Confusion"].images[0].get_array().shape == (100, 100)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (2, "float32"), (3, "float32")])
def test_worst_mistakes_come_first(tmp_path: Path, channels: int, dtype: str) -> None:
    images = dataset(4, channels, dtype=dtype)
    titles, _ = draw(tmp_path / "report.png", test_images=images)
    assert titles[-1].startswith("Worst mistakes: 2 of 2")
    figure = draw_report("", METRICS, weights(6, 1, 3, 3), judged([0, 1, 2, 2], [0, 1, 1, 0]), images)
    first, second, *rest = figure.subfigs[-1].axes
    assert [axes.get_title() for axes in (first, second)] == [
        "class 2\n→ class 0 (80 %)",
        "class 2\n→ class 1 (70 %)",
    ]
    assert not any(axes.images for axes in rest)
    worst = images.images[3].astype(float)
    if dtype == "float32":
        worst = (worst - worst.min()) / (worst.max() - worst.min())
    shown = np.asarray(first.images[0].get_array())
    assert shown == pytest.approx(worst.transpose(1, 2, 0) if channels == 3 else worst[0], rel=1e-6)


def test_no_mistakes(tmp_path: Path) -> None:
    titles, _ = draw(tmp_path / "report.png", evaluation=judged([0, 1, 2, 2], [0, 1, 2, 2]))
    assert titles[-1] == "No mistakes on the test images"
