"""PyTorch: oneDNN on a CPU, cuDNN on a GPU; contiguous and channels_last, TF32 off and on, as it is and compiled.

The gradients are `torch.autograd.grad` of one recorded `conv2d`, asked for one of its inputs: what a user's training
calls, without the other gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from benchmarks.providers.provider import Array, Provider
from benchmarks.shapes import FORWARD, KERNEL_GRADIENT, Case
from benchmarks.verify import Data


class PyTorch(Provider):
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    extra = "torch"

    def __init__(self, device: str, channels_last: bool = False, tf32: bool = False, compiled: bool = False) -> None:
        kinds = {"cuda": device == "cuda", "channels-last": channels_last, "tf32": tf32, "compile": compiled}
        self.name = "-".join(["torch", *(kind for kind, wanted in kinds.items() if wanted)])
        layout = "channels_last" if channels_last else "contiguous"
        how = "torch.compile of conv2d" if compiled else "torch conv2d and autograd"
        self.about = f"{how}, {'cuDNN' if device == 'cuda' else 'oneDNN'}, {layout}"
        self.device, self.channels_last, self.compiled = device, channels_last, compiled
        self.precision = "tf32" if tf32 else "float32"

    def missing(self) -> str | None:
        if (reason := super().missing()) is not None or self.device == "cpu":
            return reason
        return None if import_module("torch").cuda.is_available() else "this PyTorch finds no CUDA device"

    def refuses(self, case: Case, purpose: str) -> str | None:
        if self.compiled and purpose != FORWARD:
            return "compiled for the forward pass; `train --compile` has whole steps"
        return None

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        torch = import_module("torch")
        x, weight, grad_output = (self.tensor(array) for array in (data.x, data.weight, data.grad_output))
        bias = None if data.bias is None else torch.from_numpy(data.bias).to(self.device)
        conv2d, options = torch.nn.functional.conv2d, case.options
        if purpose == FORWARD:
            if self.compiled:
                conv2d = torch.compile(conv2d)

            def forward() -> Any:
                self.set_precision()
                with torch.inference_mode():
                    return conv2d(x, weight, bias, **options)

            return forward
        wanted = (weight if purpose == KERNEL_GRADIENT else x).requires_grad_()
        self.set_precision()
        y = conv2d(x, weight, **options)

        def gradient() -> Any:
            self.set_precision()
            return torch.autograd.grad(y, wanted, grad_output, retain_graph=True)[0]

        return gradient

    def tensor(self, array: Array) -> Any:
        torch = import_module("torch")
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        with warnings.catch_warnings():  # that a tensor on memory which may not be written cannot say so
            warnings.simplefilter("ignore")
            return torch.from_numpy(array).to(self.device).to(memory_format=layout)

    def set_precision(self) -> None:
        """Of cuDNN, which also picks its fastest algorithm by trying. oneDNN computes in float32 in any case."""
        if self.device == "cuda":
            cudnn = import_module("torch").backends.cudnn
            cudnn.benchmark = True
            cudnn.conv.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"

    def to_numpy(self, result: Any) -> Array:
        return np.ascontiguousarray(result.detach().cpu().numpy())
