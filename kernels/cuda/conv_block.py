"""Convolution, bias, activation and pooling, one after the other; the formulas stand in `cnn.kernels.conv_block`."""

from cnn.kernels.composed import ConvBlock
from cnn.kernels.cuda import activation, conv, pool

_block = ConvBlock(conv, pool, activation)

conv_block_forward = _block.forward
conv_block_backward = _block.backward
