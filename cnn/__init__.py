"""Small convolutional networks: layers, losses, optimisers and schedules on the kernels of `cnn.kernels`.

model = cnn.Sequential(cnn.Conv2d(1, 6, 5), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Flatten(), cnn.Linear(864, 10))
optimizer = cnn.SGD(model.parameters(), lr=0.05, momentum=0.9)
step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer)
loss = step(x, labels)  # x (N, 1, 28, 28) float32, labels (N,) integers
"""

from cnn import kernels, models
from cnn.kernels.threads import get_num_threads, set_num_threads
from cnn.layers import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool1d,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Tanh,
)
from cnn.loss import CrossEntropyLoss, HingeLoss, Loss, MSELoss
from cnn.optim import SGD, Adam, AdamW, Optimizer
from cnn.parameter import Parameter
from cnn.precision import get_precision, set_precision
from cnn.random import manual_seed
from cnn.schedule import CosineAnnealingLR, OneCycleLR, Schedule, StepLR
from cnn.step import TrainStep

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "CosineAnnealingLR",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "HingeLoss",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "OneCycleLR",
    "Optimizer",
    "Parameter",
    "ReLU",
    "Residual",
    "Schedule",
    "Sequential",
    "Sigmoid",
    "StepLR",
    "Tanh",
    "TrainStep",
    "__version__",
    "get_num_threads",
    "get_precision",
    "kernels",
    "manual_seed",
    "models",
    "set_num_threads",
    "set_precision",
]
