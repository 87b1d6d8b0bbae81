"""The loop: what it reports is what the steps computed, where it stops, and what it keeps when it does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_runs import assert_same_end, metrics_of

import cnn
from cnn.runs.checkpoint import list_checkpoints, read_checkpoint, read_newest
from cnn.runs.config import TrainConfig
from cnn.runs.folder import checkpoints_of
from cnn.runs.interrupt import Interrupted
from cnn.runs.losses import NonFiniteError
from cnn.runs.metrics import read_metrics
from cnn.runs.session import Session
from cnn.runs.training import train

Config = Callable[..., TrainConfig]


def train_straight(config: TrainConfig, run: Path, silent: Any) -> tuple[Session, Any]:
    run.mkdir()
    session = Session(config, "cpu")
    evaluation = train(session, run, silent())
    return session, evaluation


def test_reports_what_the_three_calls_by_hand_compute(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    config = tiny_config(epochs=4)  # 136 steps: one line of 100, which lies in the third epoch
    train_straight(config, tmp_path / "run", silent)

    hand = Session(config, "cpu")
    criterion = cnn.CrossEntropyLoss()
    losses, rates, images = [], [], []
    for epoch in range(config.epochs):
        hand.model.train()
        for x, labels in hand.batches.epoch(epoch):
            rates.append(hand.optimizer.lr)
            losses.append(float(criterion(hand.model(x), labels)))
            images.append(len(labels))
            hand.model.backward(criterion.backward())
            hand.optimizer.step()
            hand.schedule.step()
        hand.model.eval()

    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [(line["kind"], line["step"], line["epoch"]) for line in lines] == [
        ("epoch", 34, 1),
        ("epoch", 68, 2),
        ("step", 100, 3),
        ("epoch", 102, 3),
        ("epoch", 136, 4),
    ]
    # 270 images in batches of 8: the last of an epoch has 6, and counts for 6.
    assert images[33] == 6
    for line, first in zip(lines, (0, 34, 68, 68, 102), strict=True):
        part = slice(first, line["step"])
        assert line["loss"] == pytest.approx(np.average(losses[part], weights=images[part]), rel=1e-12)
        assert line["lr"] == rates[line["step"] - 1]
    outputs = hand.model(hand.network.normalize(hand.test_images.images))
    right = np.mean(outputs.argmax(axis=1) == hand.test_images.labels)
    assert lines[-1]["accuracy"] == pytest.approx(right)
    assert lines[-1]["best_accuracy"] == max(line["accuracy"] for line in lines if line["kind"] == "epoch")


def test_learns(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    _, evaluation = train_straight(tiny_config(), tmp_path / "run", silent)
    assert evaluation.accuracy > 0.9  # a third is chance


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step", "constant"])
def test_resumes_bit_for_bit(tiny_config: Config, tmp_path: Path, silent: Any, optimizer: str, schedule: str) -> None:
    config = tiny_config(optimizer=optimizer, schedule=schedule, lr=0.01, augment=("crop", "flip"), limit=60)
    train_straight(config, tmp_path / "straight", silent)
    run = tmp_path / "stopped"
    run.mkdir()
    checkpoint = None
    for stop in (3, 8, 11):  # in the first epoch, at its end, in the second
        with pytest.raises(Interrupted):
            train(Session(config, "cpu"), run, silent(interrupt_at(stop)), checkpoint)
        checkpoint = read_newest(checkpoints_of(run), pytest.fail)
        assert checkpoint is not None
        assert checkpoint.step == stop
    train(Session(config, "cpu"), run, silent(), checkpoint)
    assert_same_end(tmp_path / "straight", run)


def interrupt_at(stop: int, number: int = signal.SIGINT) -> Callable[[int], None]:
    return lambda step: os.kill(os.getpid(), number) if step == stop else None


def test_a_signal_during_the_evaluation_leaves_it_to_the_next_part(
    tiny_config: Config, tmp_path: Path, silent: Any
) -> None:
    config = tiny_config(limit=40, epochs=1)
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(Interrupted) as interrupted:
        train(Session(config, "cpu"), run, silent(interrupt_at(5, signal.SIGTERM)))
    assert interrupted.value.signal == signal.SIGTERM
    assert metrics_of(run) == []
    checkpoint = read_newest(checkpoints_of(run), pytest.fail)
    assert checkpoint is not None
    assert (checkpoint.state["position"]["epoch"], checkpoint.state["position"]["batch"]) == (0, 5)
    train(Session(config, "cpu"), run, silent(), checkpoint)
    assert [line["kind"] for line in metrics_of(run)] == ["epoch"]


def test_signal_handlers_are_put_back(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train_straight(tiny_config(limit=16, epochs=1), tmp_path / "run", silent)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_does_not_wait(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    def twice(step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(Session(tiny_config(), "cpu"), tmp_path, silent(twice))


def test_stops_when_the_target_is_reached(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    config = tiny_config(target_accuracy=0.9, epochs=50)
    session, evaluation = train_straight(config, tmp_path / "run", silent)
    accuracies = [line["accuracy"] for line in metrics_of(tmp_path / "run") if line["kind"] == "epoch"]
    assert evaluation.accuracy == accuracies[-1] >= 0.9
    assert all(accuracy < 0.9 for accuracy in accuracies[:-1])
    assert session.position.epoch == len(accuracies) < 50

    # Resumed, it has nothing left to do but to evaluate.
    again = Session(config, "cpu")
    checkpoint = read_newest(checkpoints_of(tmp_path / "run"), pytest.fail)
    assert train(again, tmp_path / "run", silent(), checkpoint).accuracy == evaluation.accuracy
    assert again.position.step == session.position.step


def test_names_the_step_of_a_loss_that_is_not_finite(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    session = Session(tiny_config(checkpoint_every=4), "cpu")
    spoil_loss(session, step=7)
    with pytest.raises(NonFiniteError) as raised:
        train(session, tmp_path, silent())
    newest = list_checkpoints(checkpoints_of(tmp_path))[0]
    assert str(raised.value) == f"the loss is nan at step 7 (epoch 1); the checkpoint before it is kept: {newest}"
    assert read_checkpoint(newest).step == 4  # step 8 would have been the next


def test_a_loss_that_is_not_finite_before_any_checkpoint(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    session = Session(tiny_config(), "cpu")
    spoil_loss(session, step=1, value=np.inf)
    with pytest.raises(NonFiniteError, match=r"the loss is inf at step 1 \(epoch 1\); there was no checkpoint before"):
        train(session, tmp_path, silent())
    assert list_checkpoints(checkpoints_of(tmp_path)) == []


def test_parameters_that_are_not_finite_are_not_saved(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    session = Session(tiny_config(checkpoint_every=4), "cpu")

    def spoil(step: int) -> None:
        if step == 8:  # after the loss of step 8, before its checkpoint
            session.model.parameters()[0].data[0] = np.nan

    with pytest.raises(NonFiniteError, match=r"model\.0\.weight has NaN or infinite values after step 8 .*is kept"):
        train(session, tmp_path, silent(spoil))
    assert read_checkpoint(list_checkpoints(checkpoints_of(tmp_path))[0]).step == 4


def test_a_rate_beyond_reason_ends_in_words(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    config = tiny_config(lr=1e30, schedule="constant")
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"is kept|no checkpoint before"):
        train(Session(config, "cpu"), tmp_path, silent())
    for path in list_checkpoints(checkpoints_of(tmp_path)):
        assert all(np.isfinite(array).all() for array in read_checkpoint(path).arrays.values())


def spoil_loss(session: Session, step: int, value: float = np.nan) -> None:
    criterion = session.train_step.criterion

    class Spoilt(cnn.CrossEntropyLoss):
        def __call__(self, output: Any, target: Any) -> Any:
            loss = criterion(output, target)
            self._gradient = criterion.backward()
            return np.array(value, dtype=loss.dtype) if session.position.step == step - 1 else loss

    session.train_step.criterion = Spoilt()


def test_refuses_a_checkpoint_of_other_data(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    run = tmp_path / "run"
    train_straight(tiny_config(limit=16, epochs=1), run, silent)
    checkpoint = read_newest(checkpoints_of(run), pytest.fail)
    assert checkpoint is not None
    checkpoint.state["train_images"] = 17
    with pytest.raises(ValueError, match=r"had 17 training images, .* and has 16"):
        Session(tiny_config(limit=16, epochs=1), "cpu").load(checkpoint)


def test_refuses_other_settings(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    run = tmp_path / "run"
    train_straight(tiny_config(limit=16, epochs=1), run, silent)
    checkpoint = read_newest(checkpoints_of(run), pytest.fail)
    assert checkpoint is not None
    with pytest.raises(ValueError, match=r"config\.json was changed .*: epochs from 1 to 2, lr from 0\.05 to 0\.1"):
        Session(tiny_config(limit=16, epochs=2, lr=0.1), "cpu").load(checkpoint)


def test_removes_what_a_killed_run_left_behind(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    checkpoints_of(tmp_path).mkdir()
    orphans = [tmp_path / "report.png.tmp", checkpoints_of(tmp_path) / "step-00000002.safetensors.tmp"]
    for orphan in orphans:
        orphan.write_bytes(b"half")
    train(Session(tiny_config(limit=16, epochs=1), "cpu"), tmp_path, silent())
    assert not any(orphan.exists() for orphan in orphans)


def test_metrics_are_json_lines(tiny_config: Config, tmp_path: Path, silent: Any) -> None:
    train_straight(tiny_config(limit=16, epochs=1), tmp_path / "run", silent)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == {
        "kind", "step", "epoch", "loss", "lr", "test_loss", "accuracy", "best_accuracy", "images_per_second", "seconds",
    }  # fmt: skip
