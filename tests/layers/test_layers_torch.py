"""Every layer, forward and backward, against the layer of that name in `torch.nn` with the same weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from peers import WHY_TORCH, copy_to, torch_residual, uniform
from tolerances import assert_close

import cnn

torch = pytest.importorskip("torch", reason=WHY_TORCH)
nn = torch.nn

# Ours, PyTorch's, the shape of x, and the longest sum behind any number compared.
CASES: list[tuple[cnn.Layer, Any, tuple[int, ...], int]] = [
    (cnn.Conv1d(3, 5, 4, stride=2, padding=1), nn.Conv1d(3, 5, 4, stride=2, padding=1), (4, 3, 11), 64),
    (cnn.Conv1d(4, 6, 3, dilation=2, groups=2), nn.Conv1d(4, 6, 3, dilation=2, groups=2), (3, 4, 9), 64),
    (cnn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), (17, 3, 7, 6), 1024),
    (cnn.Conv2d(2, 4, (3, 2), (1, 2), (2, 1)), nn.Conv2d(2, 4, (3, 2), (1, 2), (2, 1)), (2, 2, 5, 6), 256),
    (cnn.Conv2d(2, 4, 4, padding="same"), nn.Conv2d(2, 4, 4, padding="same"), (2, 2, 6, 5), 256),
    (cnn.Conv2d(2, 4, 3, padding="valid"), nn.Conv2d(2, 4, 3, padding="valid"), (2, 2, 6, 5), 256),
    (
        cnn.Conv2d(4, 6, 3, dilation=2, groups=2, bias=False),
        nn.Conv2d(4, 6, 3, dilation=2, groups=2, bias=False),
        (2, 4, 7, 8),
        256,
    ),
    (cnn.Linear(9, 5), nn.Linear(9, 5), (7, 9), 16),
    (cnn.Linear(9, 5, bias=False), nn.Linear(9, 5, bias=False), (7, 9), 16),
    (cnn.BatchNorm1d(3), nn.BatchNorm1d(3), (8, 3), 64),
    (cnn.BatchNorm1d(3, momentum=0.3), nn.BatchNorm1d(3, momentum=0.3), (4, 3, 5), 64),
    (cnn.BatchNorm2d(4, eps=1e-2), nn.BatchNorm2d(4, eps=1e-2), (3, 4, 5, 6), 256),
    (cnn.MaxPool1d(3, 2), nn.MaxPool1d(3, 2), (2, 3, 9), 4),
    (cnn.MaxPool2d(2), nn.MaxPool2d(2), (2, 3, 7, 6), 4),
    (cnn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 7, 6), 4),
    (cnn.AvgPool1d(2), nn.AvgPool1d(2), (2, 3, 9), 4),
    (cnn.AvgPool2d((3, 2), 2, 1), nn.AvgPool2d((3, 2), 2, 1), (2, 3, 7, 6), 16),
    (
        cnn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        (2, 3, 6, 7),
        16,
    ),
    (cnn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1), (2, 3, 5, 4), 64),
    (cnn.Flatten(), nn.Flatten(), (2, 3, 5, 4), 4),
    (cnn.ReLU(), nn.ReLU(), (3, 4, 5), 4),
    (cnn.LeakyReLU(0.2), nn.LeakyReLU(0.2), (3, 4), 4),
    (cnn.Sigmoid(), nn.Sigmoid(), (3, 4, 2, 2), 4),
    (cnn.Tanh(), nn.Tanh(), (3, 4), 4),
    (cnn.Residual(cnn.Linear(6, 6), cnn.ReLU()), torch_residual(nn.Sequential(nn.Linear(6, 6), nn.ReLU())), (5, 6), 16),
    (
        cnn.Residual(cnn.Conv2d(2, 3, 3, 2, 1), cnn.ReLU(), shortcut=cnn.Conv2d(2, 3, 1, 2)),
        torch_residual(nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU()), nn.Conv2d(2, 3, 1, 2)),
        (2, 2, 6, 7),
        64,
    ),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "peer", "shape", "length"), CASES, ids=[repr(case[0]) for case in CASES])
def test_layer(layer: cnn.Layer, peer: Any, shape: tuple[int, ...], length: int, dtype: str) -> None:
    layer = copy.deepcopy(layer)
    for seed, p in enumerate(layer.parameters()):
        p.data = uniform(seed, *p.shape)
    peer = copy_to(copy.deepcopy(peer), layer)
    if dtype == "float64":
        layer.double()
        peer.double()
    x = uniform(0, *shape, dtype=dtype)
    x_peer = torch.from_numpy(x.copy()).requires_grad_()

    y, y_peer = layer(x), peer(x_peer)
    assert y.dtype == dtype
    assert layer.output_shape(shape) == y.shape
    assert_close(y, y_peer.detach().numpy(), length=length)

    g = uniform(1, *y.shape, dtype=dtype)
    grad_x = layer.backward(g)
    y_peer.backward(torch.from_numpy(g))
    assert_close(grad_x, x_peer.grad.numpy(), length=length)
    gradients = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    assert [name for name, _ in layer.named_parameters()] == list(gradients)
    for name, p in layer.named_parameters():
        assert_close(p.grad, gradients[name], length=length)

    layer.eval()
    peer.eval()
    assert_close(layer(x), peer(x_peer).detach().numpy(), length=length)
    state = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    for name, array in layer.state_dict().items():
        assert_close(array.astype(dtype), state[name], length=length)


@pytest.mark.parametrize("peer_first", [True, False])
def test_weights_go_both_ways(peer_first: bool) -> None:
    model = cnn.Sequential(cnn.Conv2d(2, 3, 3), cnn.BatchNorm2d(3), cnn.Flatten(), cnn.Linear(48, 5))
    peer = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5))
    if peer_first:
        model.load_state_dict(peer.state_dict())
    else:
        copy_to(peer, model)
    x = uniform(0, 4, 2, 6, 6)
    assert_close(model.eval()(x), peer.eval()(torch.from_numpy(x)).detach().numpy(), length=64)


def test_initial_values_are_drawn_as_in_torch() -> None:
    # The same distribution from another generator: the bounds are reached, and the spread is that of the peer.
    cnn.manual_seed(1)
    torch.manual_seed(1)
    for ours, peer in [
        (cnn.Conv2d(8, 64, 3, groups=2), nn.Conv2d(8, 64, 3, groups=2)),
        (cnn.Conv1d(5, 400, 4), nn.Conv1d(5, 400, 4)),
        (cnn.Linear(30, 200), nn.Linear(30, 200)),
    ]:
        for (name, p), q in zip(ours.named_parameters(), peer.parameters(), strict=True):
            expected = q.detach().numpy()
            assert p.data.dtype == np.float32
            # 64 draws and more from one uniform distribution: maxima within 20 %, deviations within 35 %.
            assert abs(p.data).max() == pytest.approx(abs(expected).max(), rel=0.2), name
            assert p.data.std() == pytest.approx(expected.std(), rel=0.35), name
