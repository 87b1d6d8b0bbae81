"""report.png: loss and accuracy curves, first-layer filters, confusion matrix, worst mistakes.

Drawn with matplotlib's objects on an Agg canvas: no pyplot, so no global state and no window.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from cnn.data import Dataset
from cnn.runs.atomic import write_atomically
from cnn.runs.evaluate import Evaluation

TRAIN_COLOR, TEST_COLOR = "#4477aa", "#cc6677"
MAX_MISTAKES, MISTAKE_COLUMNS = 16, 8
MAX_FILTERS = 64
GAP_GREY = 0.6
# Beyond these the numbers, then the names, of a confusion matrix no longer fit.
MAX_NUMBERED, MAX_NAMED = 12, 30


def draw_report(
    title: str,
    metrics: list[dict[str, Any]],
    state_dict: dict[str, NDArray[Any]],
    evaluation: Evaluation,
    test_images: Dataset,
) -> Figure:
    """The report as a figure, for `save_report`.

    metrics: the lines of metrics.jsonl, at least one. state_dict: of the model; its first 4-D array holds the filters.
    evaluation: of `test_images`, in their order.
    """
    mistake_rows = math.ceil(min(MAX_MISTAKES, len(evaluation.mistakes)) / MISTAKE_COLUMNS)
    heights = [3, 5, 0.4 + 1.8 * mistake_rows]  # inches
    figure = Figure(figsize=(13, sum(heights)), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=14)
    curves, pictures, mistakes = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
    loss_axes, accuracy_axes = curves.subplots(1, 2)
    _draw_loss(loss_axes, metrics)
    _draw_accuracy(accuracy_axes, metrics)
    filter_axes, confusion_axes = pictures.subplots(1, 2)
    _draw_filters(filter_axes, state_dict)
    _draw_confusion(confusion_axes, evaluation, test_images.classes)
    _draw_mistakes(mistakes, mistake_rows, evaluation, test_images)
    return figure


def save_report(path: Path, figure: Figure) -> None:
    """Write `figure` to `path` as a PNG. Raises OSError."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomically(path, buffer.getvalue())


def _draw_loss(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    steps = [line for line in metrics if line["kind"] == "step"]
    if len(steps) < len(epochs):
        steps = epochs  # epochs of less than a hundred steps
    marker = "." if len(steps) < 30 else ""
    axes.plot(*_points(steps, "step", "loss"), color=TRAIN_COLOR, marker=marker, label="training")
    axes.plot(*_points(epochs, "step", "test_loss"), color=TEST_COLOR, marker="o", label="test")
    axes.set(title="Loss", xlabel="step")
    axes.set_xlim(left=0)
    if min(line[name] for name in ("loss", "test_loss") for line in metrics if name in line) > 0:
        axes.set_yscale("log")
        # Plain numbers: a loss seldom spans the powers of ten that a logarithmic axis is labelled with.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False)
    _finish_curves(axes)


def _draw_accuracy(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    x, y = _points(epochs, "epoch", "accuracy")
    axes.plot(x, y, color=TEST_COLOR, marker="o")
    for place, value in list(zip(x, y, strict=True))[-1:]:
        axes.annotate(f"{value:.4f}", (place, value), (0, -14), textcoords="offset points", ha="center")
    axes.set(title="Accuracy on the test images", xlabel="epoch", xlim=(0.5, max(x, default=1) + 0.5))
    axes.margins(y=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish_curves(axes)


def _points(lines: list[dict[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    return [line[x] for line in lines], [line[y] for line in lines]


def _finish_curves(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_filters(axes: Axes, state_dict: dict[str, NDArray[Any]]) -> None:
    axes.set_axis_off()
    named = [(name, array) for name, array in state_dict.items() if array.ndim == 4]
    if not named:
        axes.set_title("No layer with two-dimensional filters")
        return
    name, weight = named[0]
    shown = weight[:MAX_FILTERS]
    count = f"{len(shown)} of {len(weight)}" if len(shown) < len(weight) else f"{len(weight)}"
    axes.set_title(f"Filters of the first layer ({name}): {count}, {weight.shape[2]}x{weight.shape[3]}")
    # Each filter by its own greatest weight, zero in the middle: faint filters are worth seeing as well.
    scaled = shown / np.maximum(np.abs(shown).max(axis=(1, 2, 3), keepdims=True), 1e-12)
    if weight.shape[1] == 3:
        axes.imshow(_mosaic((scaled.transpose(0, 2, 3, 1) + 1) / 2, GAP_GREY))
    else:
        colors = colormaps["PuOr"].with_extremes(bad=str(GAP_GREY))
        axes.imshow(_mosaic(scaled[:, 0], np.nan), cmap=colors, vmin=-1, vmax=1)


def _mosaic(tiles: NDArray[Any], gap: float) -> NDArray[Any]:
    """Tiles (N, H, W) or (N, H, W, 3) side by side, about as wide as high, with lines of `gap` between them.

    Each pixel becomes 8x8, so that the lines can be narrower than one.
    """
    tiles = tiles.repeat(8, axis=1).repeat(8, axis=2)
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    _, height, width, *channels = tiles.shape
    mosaic = np.full((rows * (height + 2) + 2, columns * (width + 2) + 2, *channels), gap)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + 2) + 2, number % columns * (width + 2) + 2
        mosaic[top : top + height, left : left + width] = tile
    return mosaic


def _draw_confusion(axes: Axes, evaluation: Evaluation, classes: tuple[str, ...]) -> None:
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Mistakes are a few in a hundred: the square root makes them visible beside the diagonal.
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    axes.set(title="Confusion matrix (test images)", xlabel="predicted", ylabel="true")
    if len(classes) <= MAX_NAMED:
        names = [_short(name, 12) for name in classes]
        slant = 0 if max(map(len, names)) <= 2 else 90
        axes.set_xticks(range(len(classes)), names, rotation=slant)
        axes.set_yticks(range(len(classes)), names)
    if len(classes) <= MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.4 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)


def _draw_mistakes(figure: SubFigure, rows: int, evaluation: Evaluation, dataset: Dataset) -> None:
    total = len(evaluation.mistakes)
    if not total:
        figure.suptitle("No mistakes on the test images")
        return
    worst = evaluation.mistakes[:MAX_MISTAKES]
    figure.suptitle(f"Worst mistakes: {len(worst)} of {total} (true class → what it was taken for, and how surely)")
    frames = figure.subplots(rows, MISTAKE_COLUMNS, squeeze=False)
    for axes in frames.flat:
        axes.set_axis_off()
    for axes, number in zip(frames.flat, worst, strict=False):
        true, predicted = (dataset.classes[labels[number]] for labels in (evaluation.labels, evaluation.predicted))
        _draw_image(axes, dataset.images[number])
        percent = 100 * evaluation.probability[number]
        axes.set_title(f"{_short(true, 16)}\n→ {_short(predicted, 12)} ({percent:.0f} %)", fontsize=10)


def _draw_image(axes: Axes, image: NDArray[Any]) -> None:
    """(C, H, W) in colours if C is 3, else its first channel in grey, scaled to its own range unless uint8."""
    if image.dtype != np.uint8:
        low, high = image.min(), image.max()
        image = (image - low) / max(high - low, 1e-12)
    if len(image) == 3:
        axes.imshow(image.transpose(1, 2, 0))
    else:
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
