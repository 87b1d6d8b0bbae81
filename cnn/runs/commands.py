"""What the commands of `cnn.cli` do and print. Each returns its exit status and raises what it cannot put in words."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn.kernels.precision import FLOAT32
from cnn.runs.checkpoint import read_newest
from cnn.runs.config import ConfigError, TrainConfig
from cnn.runs.device import choose_device
from cnn.runs.display import choose_display
from cnn.runs.evaluate import Evaluation, evaluate, evaluation_batches
from cnn.runs.feed import feed
from cnn.runs.folder import checkpoints_of, create_run, open_run
from cnn.runs.forward import Forward
from cnn.runs.interrupt import Interrupted
from cnn.runs.metrics import read_metrics
from cnn.runs.session import Session
from cnn.runs.trained import load_trained
from cnn.runs.training import train

TOP = 3  # classes that `cnn predict` names
MAX_PRINTED = 20  # classes of a confusion matrix that fits in a terminal


def train_command(given: dict[str, Any], *, out: str | None, resume: str | None) -> int:
    """Train with the settings in `given`, or go on with the run in `resume`, which has its own."""
    checkpoint = None
    if resume is not None:
        others = [*given, *(["out"] if out is not None else [])]
        if others:
            names = ", ".join("--" + name.replace("_", "-") for name in others)
            raise ConfigError(f"--resume goes on with the settings of the run: leave out {names}")
        config = open_run(resume)
        checkpoint = read_newest(checkpoints_of(Path(resume)), _warn)
    else:
        config = TrainConfig.from_dict(_with_absolute_paths(given))
    session = Session(config, choose_device(config.device))
    # Only now, so that a run that cannot begin leaves no folder.
    run = create_run(out, config) if resume is None else Path(resume)
    print(_headline(session, run), flush=True)
    if resume is not None:
        print(f"going on after step {0 if checkpoint is None else checkpoint.step}", flush=True)
    try:
        evaluation = train(session, run, choose_display(), checkpoint)
    except Interrupted as interrupted:
        command = f"cnn train --resume {shlex.quote(str(run))}"
        _warn(f"interrupted after step {session.position.step}, which is saved; to go on: {command}")
        return 128 + interrupted.signal
    _draw_report(session, run, evaluation)
    epochs = session.position.epoch
    print(
        f"{_accuracy(evaluation)}, {epochs} epoch{'' if epochs == 1 else 's'}, {session.position.seconds:.1f} s, {run}"
    )
    return 0


def evaluate_command(run: str, data: str | None, wanted_device: str) -> int:
    """Print confusion matrix, loss and accuracy of a run's network on the test images of `data`, or its own."""
    from cnn.runs.assemble import load_test_images

    device = choose_device(wanted_device)
    trained = load_trained(run, device, _warn)
    network = trained.network
    dataset = load_test_images(data or trained.config.data, network.input_shape, network.classes)
    batches = feed(evaluation_batches(dataset, network.normalize), device).epoch(0)
    evaluation = evaluate(Forward(trained.model), batches, len(network.classes))
    if len(network.classes) <= MAX_PRINTED:
        print(_confusion_table(evaluation, network.classes))
    print(f"test loss {evaluation.loss:.4f}")
    print(f"{_accuracy(evaluation)}, step {trained.step}, {run}")
    return 0


def predict_command(run: str, images: Sequence[str], invert: str, wanted_device: str) -> int:
    """Print the most probable classes of each picture; 1 if one of them could not be read."""
    from cnn.runs.predict import UnreadablePicture, predict, read_picture

    device = choose_device(wanted_device)
    trained = load_trained(run, device, _warn)
    status = 0
    for image in images:
        try:
            picture = read_picture(image, trained.network, invert)
        except UnreadablePicture as error:
            print(f"cnn predict: error: {error}", file=sys.stderr, flush=True)
            status = 1
            continue
        probabilities = predict(trained.model, trained.network, picture[np.newaxis], device)[0]
        best = np.argsort(-probabilities, kind="stable")[:TOP]
        shown = ", ".join(f"{trained.network.classes[c]} ({100 * probabilities[c]:.1f} %)" for c in best)
        print(f"{image}: {shown}", flush=True)
    return status


def info_command() -> int:
    """Print what `cnn.info` says."""
    from cnn.info import describe

    lines = describe()
    width = max(len(heading) for heading, _ in lines)
    for heading, text in lines:
        print(f"{heading:<{width}}  {text}")
    return 0


def plan_command(
    model: str, image: str | None, classes: int | None, batch_size: int | None, precision: str | None
) -> int:
    """Print what a training step of `model` launches on a GPU. Raises ValueError for what it cannot have."""
    from cnn.kernels.suites import SUITES
    from cnn.models import build
    from cnn.runs.plan import plan, table

    suite = SUITES.get(model)
    default = (1, 28, 28) if suite is None else suite.image
    shape = default if image is None else tuple(int(size) if size.isdecimal() else 0 for size in image.split("x"))
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"--image must be CxHxW, such as 3x32x32, got {image!r}")
    classes = 10 if classes is None else classes
    batch = batch_size if batch_size is not None else 64 if suite is None else suite.batch
    if batch < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch}")
    network = build(model, shape, classes)
    if precision is not None:
        network.set_precision(precision)
    lines = plan(network, shape, classes, batch)
    print(f"A training step of {model}: {batch} images of {'x'.join(map(str, shape))}, SGD, on a GPU{_in(precision)}")
    print(table(lines))
    return 0


def _with_absolute_paths(given: dict[str, Any]) -> dict[str, Any]:
    """The settings, with paths that hold from whatever folder the run is resumed or evaluated in."""
    from cnn.data import NAMES

    settings = dict(given)
    file, colon, function = settings.get("model", "").rpartition(":")
    if colon:
        settings["model"] = f"{Path(file).absolute()}:{function}"
    data = settings.get("data")
    if data and data not in NAMES and (path := Path(data).expanduser()).exists():
        settings["data"] = str(path.absolute())
    return settings


def _headline(session: Session, run: Path) -> str:
    config, network = session.config, session.network
    parameters = sum(math.prod(parameter.shape) for parameter in session.model.parameters())
    shape = "x".join(map(str, network.input_shape))
    precision = FLOAT32 if config.precision is not None and session.device == "cpu" else config.precision
    return (
        f"{config.model}, {parameters:,} parameters, on {config.data}: {len(session.batches.dataset):,} training and "
        f"{len(session.test_images):,} test images of {shape}, {len(network.classes)} classes; {session.device}"
        f"{_in(precision)}; {run}"
    )


def _in(precision: str | None) -> str:
    return "" if precision is None else f" in {precision}"


def _draw_report(session: Session, run: Path, evaluation: Evaluation) -> None:
    try:
        import matplotlib  # noqa: F401 (asked here by its name: any other import that fails is a bug)
    except ModuleNotFoundError:
        _warn('report.png is not drawn without matplotlib: pip install "numba-cnn[plots]"')
        return
    from cnn.runs.report import draw_report, save_report

    config = session.config
    title = f"{Path(config.model).name} on {Path(config.data).name}, seed {config.seed}: {_accuracy(evaluation)}"
    lines = read_metrics(run / "metrics.jsonl")
    figure = draw_report(title, lines, session.model.state_dict(), evaluation, session.test_images)
    save_report(run / "report.png", figure)


def _accuracy(evaluation: Evaluation) -> str:
    return f"test accuracy {evaluation.accuracy:.4f} ({evaluation.correct} of {evaluation.images})"


def _confusion_table(evaluation: Evaluation, classes: tuple[str, ...]) -> str:
    names = [name[:12] for name in classes]
    width = max(6, *(len(name) + 1 for name in names))
    head = max(len(name) for name in (*names, "true"))
    lines = [f"{'true':<{head}} " + "".join(f"{name:>{width}}" for name in names) + "  <- predicted"]
    for name, row in zip(names, evaluation.confusion, strict=True):
        lines.append(f"{name:<{head}} " + "".join(f"{count:>{width}}" for count in row))
    return "\n".join(lines)


def _warn(message: str) -> None:
    print(f"cnn: {message}", file=sys.stderr, flush=True)
