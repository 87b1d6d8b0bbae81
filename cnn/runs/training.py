"""The training loop: steps, reports, checkpoints; an evaluation on the test images after each epoch.

The loss is looked at when it is reported, at an epoch's end and before each checkpoint, and the arrays before each
checkpoint too: so no state after a NaN is ever saved.
"""

from __future__ import annotations

import math
from pathlib import Path
from time import perf_counter

import numpy as np

from cnn.runs.atomic import remove_temporaries, sync_folder
from cnn.runs.checkpoint import Checkpoint, clear_leftovers, list_checkpoints, write_checkpoint
from cnn.runs.display import Display
from cnn.runs.evaluate import Evaluation, evaluate
from cnn.runs.folder import checkpoints_of
from cnn.runs.interrupt import Interrupt, Interrupted
from cnn.runs.losses import NonFiniteError
from cnn.runs.meter import Meter
from cnn.runs.metrics import MetricsFile
from cnn.runs.session import REPORT_EVERY, Session


def train(session: Session, run: Path, display: Display, checkpoint: Checkpoint | None = None) -> Evaluation:
    """Train until the last epoch or the target accuracy, from `checkpoint` or from the start; the last evaluation.

    run: the folder that gets metrics.jsonl and checkpoints/. After SIGINT or SIGTERM a checkpoint is written and
    `Interrupted` raised. Raises `NonFiniteError`, naming the step, for a loss or parameters that are NaN or infinite:
    the checkpoints before it are kept. Raises OSError where the disk fails, and what model and data raise.
    """
    if checkpoint is not None:
        session.load(checkpoint)
    clear_leftovers(checkpoints_of(run), session.position.step)
    remove_temporaries(run)
    metrics = MetricsFile(run / "metrics.jsonl", 0 if checkpoint is None else checkpoint.state["metrics"])
    sync_folder(run)
    display.begin(session.total_steps, session.position.step, session.config.batch_size)
    display.step(session.position.step, session.position.epoch + 1)
    try:
        with Interrupt() as interrupt:
            return _Loop(session, run, display, metrics, interrupt).run()
    finally:
        display.end()
        metrics.close()


class _Loop:
    def __init__(
        self, session: Session, run: Path, display: Display, metrics: MetricsFile, interrupt: Interrupt
    ) -> None:
        self.session = session
        self.position = session.position
        self.checkpoints = checkpoints_of(run)
        self.display = display
        self.metrics = metrics
        self.interrupt = interrupt
        self.start = perf_counter() - session.position.seconds
        self.since_line, self.since_epoch = Meter(), Meter()

    def run(self) -> Evaluation:
        evaluation = None
        try:
            try:
                while not self.session.finished:
                    self._train_epoch()
                    evaluation = self._end_epoch()
                # A run that was finished before has no evaluation at hand.
                return evaluation or self._evaluate()
            except Interrupted:
                self._save()
                raise
        except NonFiniteError as error:
            kept = list_checkpoints(self.checkpoints)
            where = f"the checkpoint before it is kept: {kept[0]}" if kept else "there was no checkpoint before it"
            raise NonFiniteError(f"{error} (epoch {self.position.epoch + 1}); {where}") from error

    def _train_epoch(self) -> None:
        session, position = self.session, self.position
        self.since_epoch.restart()
        self.since_line.restart()
        for batch in self.interrupt.between(session.feed.epoch(position.epoch, position.batch)):
            position.lr = session.optimizer.lr
            session.train_step.run(batch)
            if session.schedule is not None:
                session.schedule.step()
            images = batch.shape[0]
            session.window.append(images)
            position.step += 1
            position.batch += 1
            self.since_line.add(images)
            self.since_epoch.add(images)
            self.display.step(position.step, position.epoch + 1)
            if position.step % REPORT_EVERY == 0:
                self._report()
            # The last batch's checkpoint is the one of the epoch's end.
            if position.step % session.config.checkpoint_every == 0 and position.batch < len(session.batches):
                self._save()

    def _end_epoch(self) -> Evaluation:
        position = self.position
        self._read_losses()
        speed = self.since_epoch.images_per_second
        evaluation = self._evaluate()
        position.accuracy = evaluation.accuracy
        position.best_accuracy = max(evaluation.accuracy, position.best_accuracy or 0.0)
        self._write_line(
            "epoch",
            position.loss_sum / position.images,
            speed,
            test_loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            best_accuracy=position.best_accuracy,
        )
        position.epoch += 1
        position.batch = 0
        position.loss_sum, position.images = 0.0, 0
        self._save()
        return evaluation

    def _evaluate(self) -> Evaluation:
        session = self.session
        batches = self.interrupt.between(session.test_feed.epoch(0))
        evaluation = evaluate(session.forward, batches, len(session.network.classes))
        if not math.isfinite(evaluation.loss):
            raise NonFiniteError(f"the test loss is {evaluation.loss} after step {self.position.step}")
        return evaluation

    def _report(self) -> None:
        loss_sum, images = self._read_losses()
        self._write_line("step", loss_sum / images, self.since_line.images_per_second)
        self.since_line.restart()

    def _read_losses(self) -> tuple[float, int]:
        """Sum of the losses of all images since the last time, and how many; both go into the epoch's."""
        self.session.window.check(self.position.step)
        losses, images = self.session.window.read()
        self.session.window.clear()
        loss_sum, count = float(losses.astype(np.float64) @ images), int(images.sum())
        self.position.loss_sum += loss_sum
        self.position.images += count
        return loss_sum, count

    def _write_line(self, kind: str, loss: float, speed: float, **more: float) -> None:
        line = {
            "kind": kind,
            "step": self.position.step,
            "epoch": self.position.epoch + 1,
            "loss": loss,
            "lr": self.position.lr,
            **more,
            "images_per_second": round(speed, 1),
            "seconds": round(perf_counter() - self.start, 3),
        }
        self.metrics.write(line)
        self.display.report(line)

    def _save(self) -> None:
        session, step = self.session, self.position.step
        session.window.check(step)
        self.position.seconds = perf_counter() - self.start
        arrays = session.arrays()
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise NonFiniteError(f"{name} has NaN or infinite values after step {step}")
        state = {**session.state(), "metrics": self.metrics.sync()}
        write_checkpoint(self.checkpoints, step, arrays, state)
