"""Help for comparisons with PyTorch: the same weights in both, and networks written a second time in `torch.nn`."""

from __future__ import annotations

from typing import Any

import numpy as np

import cnn

WHY_TORCH = "compares with PyTorch, which the extra `torch` installs"


def uniform(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers in [-1, 1], for which the table of tolerances is made."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def mnist_like(seed: int, batch: int, *shape: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images of mostly zeros with some bright pixels, and labels."""
    rng = np.random.default_rng(seed)
    images = np.where(rng.random((batch, *shape)) < 0.2, rng.random((batch, *shape)), 0).astype(np.float32)
    return images, rng.integers(0, 10, batch)


def copy_to(peer: Any, model: cnn.Layer) -> Any:
    """Give the torch module `peer` the weights of `model`, and return it."""
    torch = __import__("torch")
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    return peer


def torch_residual(body: Any, shortcut: Any = None) -> Any:
    """`cnn.Residual`, written in torch.nn."""
    nn = __import__("torch").nn

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = body
            self.shortcut = shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    return Residual()


def torch_lenet5() -> Any:
    nn = __import__("torch").nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def torch_mnist_cnn() -> Any:
    nn = __import__("torch").nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def torch_cifar_cnn() -> Any:
    nn = __import__("torch").nn
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4096, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def torch_resnet8(channels: int = 3) -> Any:
    nn = __import__("torch").nn

    def block(c: int, k: int, stride: int) -> Any:
        body = nn.Sequential(
            nn.Conv2d(c, k, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(k),
            nn.ReLU(),
            nn.Conv2d(k, k, 3, padding=1, bias=False),
            nn.BatchNorm2d(k),
        )
        shortcut = None if c == k else nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))
        return torch_residual(body, shortcut)

    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        block(16, 16, 1),
        nn.ReLU(),
        block(16, 32, 2),
        nn.ReLU(),
        block(32, 64, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


PEERS = {
    "lenet5": torch_lenet5,
    "mnist-cnn": torch_mnist_cnn,
    "cifar-cnn": torch_cifar_cnn,
    "resnet8": torch_resnet8,
}
