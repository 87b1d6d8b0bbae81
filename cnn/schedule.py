"""Learning-rate schedules: call `step()` after each epoch, or after each `optimizer.step()` for OneCycleLR.

A schedule is a function of the number of steps taken, `last_epoch`; names, arguments and values are those of
`torch.optim.lr_scheduler`, there being one group of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from cnn.optim import SGD, Adam, Optimizer


class Schedule:
    """The base of all schedules: making one sets the learning rate of step 0."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.last_epoch = 0
        self._apply()

    def step(self) -> None:
        """Go one step on and set the optimiser's learning rate."""
        self.last_epoch += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Arguments and position, as JSON can hold them."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned. The optimiser keeps its rate, which is in its own state.

        Raises `ValueError` where the names are not those of this schedule, and then changes nothing.
        """
        own = self.state_dict()
        if own.keys() != state.keys():
            raise ValueError(f"{type(self).__name__}.load_state_dict: expected {sorted(own)}, got {sorted(state)}")
        vars(self).update(state)

    def _apply(self) -> None:
        self.optimizer.lr = self._lr()

    def _lr(self) -> float:
        raise NotImplementedError(f"{type(self).__name__}: _lr is not written")


class StepLR(Schedule):
    """The initial rate times gamma ** (steps // step_size). Raises `ValueError` for a step_size below 1."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, got {step_size}")
        self.step_size = step_size
        self.gamma = float(gamma)
        self.base_lr = optimizer.lr
        super().__init__(optimizer)

    def _lr(self) -> float:
        return self.base_lr * self.gamma ** (self.last_epoch // self.step_size)


class CosineAnnealingLR(Schedule):
    """From the initial rate to eta_min in T_max steps along half a cosine, and back again after that.

    Raises `ValueError` for a T_max below 1. Source: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, got {T_max}")
        self.T_max = T_max
        self.eta_min = float(eta_min)
        self.base_lr = optimizer.lr
        super().__init__(optimizer)

    def _lr(self) -> float:
        return _anneal("cos", self.base_lr, self.eta_min, self.last_epoch / self.T_max)


class OneCycleLR(Schedule):
    """Up from max_lr / div_factor to max_lr in the first pct_start of total_steps, then down to a rate final_div_factor
    times smaller than the first one; momentum (beta1 of Adam) goes the other way.

    three_phase: down to the first rate in as many steps as up, then on to the last. Steps 0 to total_steps - 1 are the
    cycle; the `step()` after the last update stays at its end, and one more raises `ValueError`, as do options out of
    range. Source: Smith and Topin 2017, https://arxiv.org/abs/1708.07120.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"OneCycleLR: total_steps must be at least 1, got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must lie in 0..1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f'OneCycleLR: anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}')
        if cycle_momentum and not isinstance(optimizer, SGD | Adam):
            raise ValueError(f"OneCycleLR: {type(optimizer).__name__} has no momentum: set cycle_momentum=False")
        self.max_lr = float(max_lr)
        self.total_steps = total_steps
        self.pct_start = float(pct_start)
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = bool(cycle_momentum)
        self.base_momentum = float(base_momentum)
        self.max_momentum = float(max_momentum)
        self.div_factor = float(div_factor)
        self.final_div_factor = float(final_div_factor)
        self.three_phase = bool(three_phase)
        super().__init__(optimizer)

    def step(self) -> None:
        if self.last_epoch >= self.total_steps:
            raise ValueError(f"OneCycleLR: step {self.last_epoch + 1} of a cycle of {self.total_steps}")
        super().step()

    def _apply(self) -> None:
        step = min(self.last_epoch, self.total_steps - 1)
        phases = self._phases()
        index = sum(step > phase.end for phase in phases[:-1])
        start, end = phases[index - 1].end if index else 0.0, phases[index].end
        progress = (step - start) / (end - start) if end != start else 1.0
        self.optimizer.lr = _anneal(self.anneal_strategy, *phases[index].rate, progress)
        if self.cycle_momentum:
            momentum = _anneal(self.anneal_strategy, *phases[index].momentum, progress)
            if isinstance(self.optimizer, Adam):
                self.optimizer.betas = (momentum, self.optimizer.betas[1])
            elif isinstance(self.optimizer, SGD):
                self.optimizer.momentum = momentum

    def _phases(self) -> list[_Phase]:
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        low, high = self.base_momentum, self.max_momentum
        up = self.pct_start * self.total_steps
        rise = _Phase(up - 1, (first, self.max_lr), (high, low))
        if not self.three_phase:
            return [rise, _Phase(self.total_steps - 1, (self.max_lr, last), (low, high))]
        return [
            rise,
            _Phase(2 * up - 2, (self.max_lr, first), (low, high)),
            _Phase(self.total_steps - 1, (first, last), (high, high)),
        ]


class _Phase(NamedTuple):
    """A stretch of the cycle: the step it ends with, and where rate and momentum start and end."""

    end: float
    rate: tuple[float, float]
    momentum: tuple[float, float]


def _anneal(strategy: str, start: float, end: float, progress: float) -> float:
    """From start (progress 0) to end (progress 1), along half a cosine or a line."""
    if strategy == "cos":
        return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))
    return start + (end - start) * progress
