"""onnxruntime: a model of one convolution, for inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.providers.provider import Array, Provider
from benchmarks.shapes import FORWARD, Case
from benchmarks.verify import Data
from cnn.kernels.threads import get_num_threads

# Versions that onnxruntime has known for years; a convolution has not changed since.
OPSET, IR_VERSION = 13, 8


class OnnxRuntime(Provider):
    name, about, needs = "onnxruntime", "an ONNX model of one convolution on the CPU", ("onnxruntime", "onnx")

    def refuses(self, case: Case, purpose: str) -> str | None:
        return None if purpose == FORWARD else "for inference: it has no gradients"

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = get_num_threads()
        session = onnxruntime.InferenceSession(_model(case, data), options, providers=["CPUExecutionProvider"])
        inputs = {"x": data.x}
        return lambda: session.run(None, inputs)

    def to_numpy(self, result: Any) -> Array:
        (y,) = result
        return super().to_numpy(y)


def _model(case: Case, data: Data) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    arrays = {"weight": data.weight, **({} if data.bias is None else {"bias": data.bias})}
    attributes = {
        "strides": [case.stride] * 2,
        "pads": [case.padding] * 4,
        "dilations": [case.dilation] * 2,
        "group": case.groups,
    }
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", *arrays], ["y"], **attributes)],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, case.geometry.y_shape)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
