"""Initial weights: uniform in [-b, b] with b = 1 / sqrt(fan_in).

It is what PyTorch's `kaiming_uniform_(a=sqrt(5))` comes to, gain sqrt(2 / (1 + a^2)) times sqrt(3 / fan_in), and its
bound for the biases of convolutions and dense layers (He et al. 2015, https://arxiv.org/abs/1502.01852).
"""

from __future__ import annotations

import math

import numpy as np

from cnn.parameter import Parameter
from cnn.random import generator


def uniform(shape: tuple[int, ...], fan_in: int) -> Parameter:
    """A float32 parameter drawn from `cnn.random`; fan_in is the number of inputs one output is made of."""
    bound = 1 / math.sqrt(fan_in)
    return Parameter(generator().uniform(-bound, bound, shape).astype(np.float32))
