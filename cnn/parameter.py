"""Parameters and their gradients, and the flat buffer in which an optimiser lays them side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from cnn.array import Array, device_of, namespace

# Parameters start at multiples of 16 elements (64 bytes in float32): a whole vector register, a whole cache line, and
# what 128-bit loads on a GPU ask for. What lies between stays zero under every update.
ALIGNMENT = 16


class Parameter:
    """An array that is learned, `data`, and its gradient of the same shape and dtype, `grad`, zero at first.

    A layer's `backward` overwrites `grad`; nothing accumulates in it. Assigning to `data` or `grad` copies the values
    in, since both may be views of a `FlatBuffer`: it raises `ValueError` for another shape and writes nothing.
    """

    def __init__(self, data: Array) -> None:
        self._data = data
        self._grad = namespace(data).zeros_like(data)
        self._buffer: FlatBuffer | None = None

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, values: Array) -> None:
        self._fill("data", self._data, values)

    @property
    def grad(self) -> Array:
        return self._grad

    @grad.setter
    def grad(self, values: Array) -> None:
        self._fill("grad", self._grad, values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._data.shape)

    def change(self, function: Callable[[Array], Array]) -> None:
        """Replace data and grad by `function` of each; where that gives back the same array nothing happens.

        A parameter that changes leaves the buffer of its optimiser, which then refuses to go on.
        """
        data = function(self._data)
        if data is not self._data:
            self._data, self._grad, self._buffer = data, function(self._grad), None

    def _fill(self, name: str, array: Array, values: Array) -> None:
        if tuple(values.shape) != self.shape:
            raise ValueError(f"Parameter: {name} must have shape {self.shape}, got {tuple(values.shape)}")
        array[...] = values

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle of a view is an array of its own, no longer a part of the buffer.
        return {**vars(self), "_buffer": None}

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self._data.dtype}, device={device_of(self._data)!r})"


class FlatBuffer:
    """All values of some parameters in one array (n,), `data`, and all gradients in another, `grad`.

    `Parameter.data` and `Parameter.grad` become views of the two, so one kernel updates every parameter. Make it
    with `FlatBuffer.of`.
    """

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        sizes = [-(-math.prod(p.shape) // ALIGNMENT) * ALIGNMENT for p in parameters]
        self.parameters = parameters
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        first = parameters[0].data
        xp = namespace(first)
        self.data = xp.zeros(sum(sizes), first.dtype)
        self.grad = xp.zeros(sum(sizes), first.dtype)
        for p, data, grad in zip(parameters, self.views(self.data), self.views(self.grad), strict=True):
            data[...], grad[...] = p.data, p.grad
            p._data, p._grad, p._buffer = data, grad, self

    @staticmethod
    def of(parameters: Iterable[Parameter]) -> FlatBuffer:
        """The buffer that holds exactly `parameters` in this order: the one they lie in already, or a new one.

        Raises `TypeError` for anything but parameters, `ValueError` for none, for one given twice, and for parameters
        of several dtypes or devices.
        """
        listed = tuple(parameters)
        for item in listed:
            if not isinstance(item, Parameter):
                raise TypeError(f"optimiser: expected parameters, as model.parameters() gives, got {item!r}")
        if not listed:
            raise ValueError("optimiser: there are no parameters to update")
        if len({id(p) for p in listed}) < len(listed):
            raise ValueError("optimiser: the same parameter is listed twice")
        kinds = sorted({f"{p.data.dtype} on {device_of(p.data)}" for p in listed})
        if len(kinds) > 1:
            raise ValueError(f"optimiser: parameters must have one dtype and one device, got {', '.join(kinds)}")
        buffer = listed[0]._buffer
        if buffer is not None and buffer.parameters == listed and buffer.intact():
            return buffer
        return FlatBuffer(listed)

    def intact(self) -> bool:
        """Whether every parameter still lies here: `to`, `float`, `double` and a buffer of others take them away."""
        return all(p._buffer is self for p in self.parameters)

    def views(self, flat: Array) -> list[Array]:
        """The part of each parameter, in its shape, of an array laid out as `data` is."""
        return [
            flat[start : start + math.prod(p.shape)].reshape(p.shape)
            for start, p in zip(self._starts, self.parameters, strict=True)
        ]
