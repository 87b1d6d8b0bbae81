"""Convolution, pooling, activations, normalisation, losses and optimiser updates: arrays in, arrays out, no state.

A NumPy array goes to the `cpu` backend, a CuPy array to `cuda`; `with backend("reference"):` forces one. The CPU
backend serves float32 in one and two dimensions; float64 and three dimensions go through the reference.
"""

if __name__ != "cnn.kernels":
    raise ImportError(
        f'this package is imported as "cnn.kernels", not as "{__name__}": write "from cnn import kernels"'
    )

from cnn.kernels.accuracy import count_correct
from cnn.kernels.activation import (
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from cnn.kernels.conv import conv_bias_gradient, conv_forward, conv_input_gradient, conv_kernel_gradient
from cnn.kernels.conv_block import conv_block_backward, conv_block_forward
from cnn.kernels.dispatch import backend
from cnn.kernels.dropout import dropout
from cnn.kernels.errors import BackendError, DTypeError, ShapeError
from cnn.kernels.gather import gather_batch, gather_next
from cnn.kernels.geometry import ConvGeometry, PoolGeometry
from cnn.kernels.linear import linear_backward, linear_forward
from cnn.kernels.loss import hinge, mean_squared_error, softmax_cross_entropy
from cnn.kernels.norm import batch_norm_backward, batch_norm_forward
from cnn.kernels.optimizer import adam_update, sgd_update
from cnn.kernels.pool import avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward
from cnn.kernels.record import record
from cnn.kernels.residual import residual_backward, residual_forward

__all__ = [
    "BackendError",
    "ConvGeometry",
    "DTypeError",
    "PoolGeometry",
    "ShapeError",
    "adam_update",
    "avg_pool_backward",
    "avg_pool_forward",
    "backend",
    "batch_norm_backward",
    "batch_norm_forward",
    "conv_bias_gradient",
    "conv_block_backward",
    "conv_block_forward",
    "conv_forward",
    "conv_input_gradient",
    "conv_kernel_gradient",
    "count_correct",
    "dropout",
    "gather_batch",
    "gather_next",
    "hinge",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward",
    "linear_forward",
    "max_pool_backward",
    "max_pool_forward",
    "mean_squared_error",
    "record",
    "relu_backward",
    "relu_forward",
    "residual_backward",
    "residual_forward",
    "sgd_update",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy",
    "tanh_backward",
    "tanh_forward",
]
