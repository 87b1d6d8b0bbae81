"""What every layer is: a way in, `forward`, and the same way back, `backward`.

There is no tape. In training mode `forward` remembers what `backward` needs; `backward` takes that, writes the
gradients of the layer's own parameters (over the old ones: nothing accumulates) and returns that of the input.

A layer of one's own derives from `Layer`, keeps its `Parameter`s and its inner layers as attributes, and has both ways:

    class Scale(cnn.Layer):
        def __init__(self):
            self.weight = cnn.Parameter(np.ones(1, np.float32))

        def forward(self, x):
            self._remember(x)
            return x * self.weight.data

        def backward(self, grad_output, *, needs_input_gradient=True):
            (x,) = self._recall()
            self.weight.grad[0] = (grad_output * x).sum()
            return grad_output * self.weight.data
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cnn.array import Array, check_device, device_of, move
from cnn.kernels import DTypeError, ShapeError
from cnn.kernels.precision import check_precision
from cnn.parameter import Parameter
from cnn.precision import get_precision

if TYPE_CHECKING:
    from typing_extensions import Self


class Layer:
    """The base of all layers. `training` is True at first, as in PyTorch: call `eval()` before inference.

    deterministic: compute the same bits in every run on a GPU, too, at the cost of some speed; `TrainStep` sets it.
    precision: see `set_precision`.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ()  # attributes that are state, but not learned
    training: bool = True
    deterministic: bool = False
    precision: str | None = None
    _saved: tuple[Any, ...] | None = None
    _fits: tuple[int, ...] | None = None  # the last shape of an input that was found right

    def forward(self, x: Array) -> Array:
        """The output for a batch x (N, ...). x must not be written to until `backward` has run."""
        raise NotImplementedError(f"{self}: forward is not written")

    def backward(self, grad_output: Array, *, needs_input_gradient: bool = True) -> Array:
        """From the gradient of the output of the last `forward`, write `grad` of every parameter, return that of x.

        With needs_input_gradient=False a layer may leave that last part out and return None: the first layer of a
        network needs no gradient of the images. Raises `RuntimeError` without a `forward` in training mode before it.
        """
        raise NotImplementedError(f"{self}: backward is not written")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of forward(x) for an x of `shape` (N, ...), without computing it; the same shape unless overridden.

        Raises `ShapeError`, a ValueError, in the name of the layer for a shape that it does not take.
        """
        return shape

    def replayed(self) -> None:
        """Note on the host what a forward pass in training mode changes there, after one that only the device saw."""

    def __call__(self, x: Array) -> Array:
        return self.forward(x)

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers right inside this one, with the names that `state_dict` knows them by."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Layer))

    def modules(self) -> Iterator[Layer]:
        """This layer and every layer inside it."""
        yield self
        for _, child in self.named_children():
            yield from child.modules()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its name in `state_dict`, in the order of the layers."""
        yield from ((prefix + name, value) for name, value in vars(self).items() if isinstance(value, Parameter))
        for name, child in self.named_children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """Every parameter, in the order of the layers."""
        return [parameter for _, parameter in self.named_parameters()]

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers as NumPy arrays, under the names and in the order PyTorch gives them."""
        return {name: np.array(move(array, "cpu")) for name, array in self._named_arrays()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy values in place from what `state_dict`, this one's or PyTorch's, returned for the same layers.

        Raises `ValueError` that lists every name missing or unexpected and every wrong shape or dtype, and then
        writes nothing.
        """
        own = dict(self._named_arrays())
        given = {name: np.asarray(value) for name, value in state.items()}
        problems = [f"{name} is missing" for name in own if name not in given]
        problems += [f"{name} is unexpected" for name in given if name not in own]
        problems += [
            f"{name} must be {array.dtype} {array.shape}, got {given[name].dtype} {given[name].shape}"
            for name, array in own.items()
            if name in given and (given[name].shape != array.shape or given[name].dtype != array.dtype)
        ]
        if problems:
            raise ValueError(f"load_state_dict: the state does not fit the layers: {'; '.join(problems)}")
        for name, array in own.items():
            array[...] = move(given[name], device_of(array))

    def train(self, mode: bool = True) -> Self:
        """Training mode (or, with mode=False, evaluation mode) for this layer and all inside it. Returns self."""
        for layer in self.modules():
            layer.training = mode
        if not mode:
            self.forget()
        return self

    def eval(self) -> Self:
        """Evaluation mode: no dropout, running statistics, and nothing is remembered, so there is no way back."""
        return self.train(False)

    def set_precision(self, precision: str | None) -> Self:
        """Let the convolutions in here, this layer and all inside it, compute in "float32", "tf32" or "bf16" (see
        `cnn.set_precision`), or as that says for None. Returns self. Raises `ShapeError`, a ValueError.
        """
        if precision is not None:
            check_precision(type(self).__name__, precision)
        for layer in self.modules():
            layer.precision = precision
        return self

    @property
    def precision_in_effect(self) -> str:
        """Its own precision, or the one of `cnn.set_precision`."""
        return get_precision() if self.precision is None else self.precision

    def forget(self) -> None:
        """Let go of what `forward` remembered, here and in all layers inside."""
        for layer in self.modules():
            layer._saved = None

    def to(self, device: str) -> Self:
        """Move to "cpu" or "cuda". Returns self. Make the optimiser afterwards: the arrays are new ones.

        Raises `ValueError` for another device, `RuntimeError` for "cuda" without CuPy or without a GPU; nothing has
        moved then.
        """
        check_device(device)
        return self._change(lambda array: move(array, device))

    def float(self) -> Self:
        """Convert parameters and buffers to float32. Returns self. Make the optimiser afterwards, as with `to`."""
        return self._change(lambda array: array.astype(np.float32, copy=False))

    def double(self) -> Self:
        """Convert parameters and buffers to float64, in which gradients can be checked. As `float` otherwise."""
        return self._change(lambda array: array.astype(np.float64, copy=False))

    def _change(self, function: Callable[[Array], Array]) -> Self:
        self.forget()
        for parameter in self.parameters():
            parameter.change(function)
        for layer in self.modules():
            for name in layer.buffer_names:
                # An integer buffer is a counter: the host reads it, and its precision is no matter of the network's.
                if getattr(layer, name).dtype.kind == "f":
                    setattr(layer, name, function(getattr(layer, name)))
        return self

    def _named_arrays(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value.data
        yield from ((prefix + name, getattr(self, name)) for name in self.buffer_names)
        for name, child in self.named_children():
            yield from child._named_arrays(f"{prefix}{name}.")

    def _remember(self, *values: Any) -> None:
        """Keep what `backward` needs, in training mode only: inference shall not hold on to every activation."""
        if self.training:
            self._saved = values

    def _recall(self) -> tuple[Any, ...]:
        """What `_remember` kept, given out once, so that memory is freed on the way back."""
        if self._saved is None:
            raise RuntimeError(
                f"{self}: backward needs a forward pass in training mode before it, and there was none since the last "
                "backward, eval(), to(), float() or double()"
            )
        saved, self._saved = self._saved, None
        return saved

    def _check_input(self, x: Any, *sizes: int | str) -> None:
        """x is an array of the rank and the fixed sizes in `sizes`; letters stand for free sizes."""
        if type(x) is not np.ndarray:  # which it is on a CPU, where this is asked of every layer for every image
            try:
                device_of(x)
            except TypeError as error:
                raise DTypeError(f"{self}: x: {error}") from None
        if x.shape != self._fits:
            self._check_shape(x.shape, *sizes)
            self._fits = x.shape

    def _check_shape(self, shape: tuple[int, ...], *sizes: int | str) -> None:
        if len(shape) != len(sizes) or any(
            type(size) is int and size != actual for size, actual in zip(sizes, shape, strict=True)
        ):
            raise ShapeError(f"{self}: x must be ({', '.join(map(str, sizes))}), got {tuple(shape)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._arguments()})"

    def _arguments(self) -> str:
        """The arguments of the constructor as `repr` shows them."""
        return ""
