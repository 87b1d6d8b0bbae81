"""Layers: names, arguments, initial values and `state_dict` are those of `torch.nn`; there is a file for each kind."""

from cnn.layers.activation import LeakyReLU, ReLU, Sigmoid, Tanh
from cnn.layers.containers import Residual, Sequential
from cnn.layers.conv import Conv1d, Conv2d
from cnn.layers.dropout import Dropout
from cnn.layers.flatten import Flatten
from cnn.layers.layer import Layer
from cnn.layers.linear import Linear
from cnn.layers.norm import BatchNorm1d, BatchNorm2d
from cnn.layers.pool import AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Tanh",
]
