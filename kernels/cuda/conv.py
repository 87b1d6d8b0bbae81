"""The three convolutions and the bias gradient, under the file name that every backend has them by."""

from cnn.kernels.cuda.conv_bias_gradient import conv_bias_gradient
from cnn.kernels.cuda.conv_forward import conv_forward
from cnn.kernels.cuda.conv_input_gradient import conv_input_gradient
from cnn.kernels.cuda.conv_kernel_gradient import conv_kernel_gradient

__all__ = ["conv_bias_gradient", "conv_forward", "conv_input_gradient", "conv_kernel_gradient"]
