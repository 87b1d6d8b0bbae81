"""Optimisers: all parameters lie in one flat buffer, and one kernel updates them all.

The formulas stand in `cnn.kernels.optimizer`; numbers and arguments are those of `torch.optim`. Options such as `lr`
are plain attributes: a schedule, or anyone, sets them between steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from cnn import kernels
from cnn.array import Array, device_of, move, namespace
from cnn.kernels.buffers import allocate
from cnn.kernels.record import Record
from cnn.parameter import FlatBuffer, Parameter


class Optimizer:
    """The base of all optimisers.

    Making one moves the parameters into a `FlatBuffer`; a second one for the same parameters shares it. Raises
    `TypeError` and `ValueError` as `FlatBuffer.of` does, `ValueError` for options out of range.
    """

    option_names: ClassVar[tuple[str, ...]]
    state_names: ClassVar[tuple[str, ...]]  # attributes that are flat arrays beside the parameters

    lr: float

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self._check_options({name: getattr(self, name) for name in self.option_names})
        self._flat = FlatBuffer.of(parameters)
        for name in self.state_names:
            setattr(self, name, namespace(self._flat.data).zeros_like(self._flat.data))
        # On a GPU the update reads the rate from memory, so that it can be replayed with another one.
        on_gpu = device_of(self._flat.data) == "cuda"
        self._rate: Array | None = allocate((1,), np.float32, like=self._flat.data) if on_gpu else None
        self._rate_value: float | None = None

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self._flat.parameters

    def owns(self, parameter: Parameter) -> bool:
        """Whether this optimiser updates `parameter`."""
        return any(parameter is one for one in self.parameters)

    def clear_gradients(self) -> None:
        """Fill all gradients with zeros. Layers overwrite them: only what adds to them needs that."""
        self._flat.grad.fill(0)

    def step(self, record: Record | None = None) -> None:
        """Update every parameter in place from its gradient, and do `record` along.

        Raises `RuntimeError` where the parameters are not where the optimiser put them; nothing is written then.
        """
        self.prepare()
        self._update(self._flat.data, self._flat.grad, record)

    def prepare(self) -> None:
        """Bring what changed since the last step to where the update reads it. Raises as `step` does."""
        if not self._flat.intact():
            raise RuntimeError(
                f"{type(self).__name__}: the parameters have moved since this optimiser was made (to, float, double, "
                "or an optimiser for some of them made later); make it after that"
            )
        if self._rate is not None and self._rate_value != self.lr:
            self._rate.fill(self.lr)
            self._rate_value = self.lr

    def replayed(self) -> None:
        """Note on the host a step that only the device saw."""

    def fixed_options(self) -> tuple[Any, ...]:
        """The options that are part of a recorded step: all but the rate."""
        return tuple(getattr(self, name) for name in self.option_names if name != "lr")

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """{"arrays": {"velocity.0": NumPy copy in the shape of parameter 0, ...}, "scalars": {what JSON can hold}}."""
        arrays = {name: np.array(move(view, "cpu")) for name, view in self._state_views().items()}
        return {"arrays": arrays, "scalars": {name: getattr(self, name) for name in self._scalar_names()}}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Continue from what `state_dict` of the same optimiser for the same parameters returned, options included.

        Raises `ValueError` that lists what is missing, unexpected, of another shape or dtype, or out of range, and
        then writes nothing.
        """
        views = self._state_views()
        arrays, scalars = state.get("arrays", {}), state.get("scalars", {})
        problems = _differences(list(views), arrays) + _differences(self._scalar_names(), scalars)
        problems += [
            f"{name} must be {view.dtype} {view.shape}, got {arrays[name].dtype} {arrays[name].shape}"
            for name, view in views.items()
            if name in arrays and (arrays[name].shape != view.shape or arrays[name].dtype != view.dtype)
        ]
        if problems:
            raise ValueError(f"{type(self).__name__}.load_state_dict: the state does not fit: {'; '.join(problems)}")
        # JSON has lists where Python had tuples.
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in scalars.items()}
        self._check_options(values)
        for name, view in views.items():
            view[...] = move(np.asarray(arrays[name]), device_of(view))
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def _lr(self) -> Any:
        return self.lr if self._rate is None else self._rate

    def _update(self, value: Array, gradient: Array, record: Record | None) -> None:
        raise NotImplementedError(f"{type(self).__name__}: _update is not written")

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for name in ("lr", "weight_decay"):
            self._check(f"{name} must be at least 0", options[name] >= 0, options[name])

    def _check(self, rule: str, holds: bool, value: Any) -> None:
        if not holds:
            raise ValueError(f"{type(self).__name__}: {rule}, got {value}")

    def _scalar_names(self) -> tuple[str, ...]:
        return self.option_names

    def _state_views(self) -> dict[str, Array]:
        return {
            f"{name}.{index}": view
            for name in self.state_names
            for index, view in enumerate(self._flat.views(getattr(self, name)))
        }


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD` without dampening.

    nesterov: Nesterov's momentum, which needs a momentum above 0. weight_decay adds that multiple of the values to the
    gradients.
    """

    option_names = ("lr", "momentum", "nesterov", "weight_decay")
    state_names = ("velocity",)
    velocity: Array

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.lr = float(lr)
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = float(weight_decay)
        super().__init__(parameters)

    def _update(self, value: Array, gradient: Array, record: Record | None) -> None:
        kernels.sgd_update(
            value,
            gradient,
            self.velocity,
            lr=self._lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            record=record,
        )

    def _check_options(self, options: Mapping[str, Any]) -> None:
        super()._check_options(options)
        momentum = options["momentum"]
        self._check("momentum must be at least 0", momentum >= 0, momentum)
        self._check("nesterov needs a momentum above 0", not options["nesterov"] or momentum > 0, momentum)


class Adam(Optimizer):
    """Adam with L2 weight decay, as `torch.optim.Adam` (Kingma and Ba 2014, https://arxiv.org/abs/1412.6980)."""

    option_names = ("lr", "betas", "eps", "weight_decay")
    state_names = ("mean", "square")
    decoupled: ClassVar[bool] = False
    mean: Array
    square: Array

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.lr = float(lr)
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)
        self.weight_decay = float(weight_decay)
        self.steps = 0
        super().__init__(parameters)
        # The number of the step, beside the rate and for the same reason.
        self._count = None if self._rate is None else allocate((1,), np.int32, like=self._rate)
        self._count_value: int | None = None

    def prepare(self) -> None:
        super().prepare()
        if self._count is not None and self._count_value != self.steps:
            self._count.fill(self.steps)
            self._count_value = self.steps

    def replayed(self) -> None:
        self.steps += 1
        self._count_value = self.steps

    def _update(self, value: Array, gradient: Array, record: Record | None) -> None:
        if self._count is not None:
            self._count += 1
        kernels.adam_update(
            value,
            gradient,
            self.mean,
            self.square,
            step=self.steps + 1 if self._count is None else self._count,
            lr=self._lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled=self.decoupled,
            record=record,
        )
        self.replayed()

    def _check_options(self, options: Mapping[str, Any]) -> None:
        super()._check_options(options)
        betas = options["betas"]
        self._check("betas must be two numbers in [0, 1)", len(betas) == 2 and all(0 <= b < 1 for b in betas), betas)
        self._check("eps must be at least 0", options["eps"] >= 0, options["eps"])

    def _scalar_names(self) -> tuple[str, ...]:
        return (*super()._scalar_names(), "steps")


class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW` (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)


def _differences(expected: Iterable[str], given: Mapping[str, Any]) -> list[str]:
    names = list(expected)
    missing = [f"{name} is missing" for name in names if name not in given]
    return missing + [f"{name} is unexpected" for name in given if name not in names]
