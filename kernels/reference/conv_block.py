"""Convolution, bias, activation and pooling, one after the other; the formulas stand in `cnn.kernels.conv_block`."""

from cnn.kernels.composed import ConvBlock
from cnn.kernels.reference import activation, conv, pool, residual

_block = ConvBlock(conv, pool, activation, residual)

conv_block_forward = _block.forward
conv_block_backward = _block.backward
