"""The reference, which serves float64, against `torch.nn.functional` and autograd over drawn options."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_cases import PoolCase, pool_cases
from tolerances import assert_close

from cnn import kernels

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install numba-cnn[torch]")
F = torch.nn.functional

Array = np.ndarray[Any, Any]

SEEDS = st.integers(0, 2**32 - 1)
# Sums here have at most some hundred terms; those of PyTorch may be as far off as ours.
LENGTH = 1024


def leaf(array: Array) -> Any:
    return torch.tensor(array, requires_grad=True)


def check_gradients(y: Any, grad_output: Array, *pairs: tuple[Any, Array]) -> None:
    """Autograd's gradients of `y` at the leaves are the arrays beside them."""
    gradients = torch.autograd.grad(y, [tensor for tensor, _ in pairs], torch.tensor(grad_output))
    for expected, (_, actual) in zip(gradients, pairs, strict=True):
        assert_close(actual, expected.numpy(), length=LENGTH)


def flat_padding(padding: tuple[tuple[int, int], ...]) -> list[int]:
    """Pairs as F.pad takes them: last dimension first."""
    return list(chain.from_iterable(reversed(padding)))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=40)
def test_convolution(dimensions: int, data: st.DataObject, seed: int) -> None:
    case: ConvCase = data.draw(conv_cases(dimensions))
    o = case.options
    x, weight, g = case.reals(seed)
    bias = np.random.default_rng(seed).uniform(-1, 1, weight.shape[0])
    tx, tweight, tbias = leaf(x), leaf(weight), leaf(bias)
    spatial = tuple(range(2, 2 + dimensions))
    used = torch.flip(tweight, spatial) if o["mode"] == "convolution" else tweight
    conv = (F.conv1d, F.conv2d, F.conv3d)[dimensions - 1]
    padded = F.pad(tx, flat_padding(o["padding"]))
    ty = conv(padded, used, tbias, stride=o["stride"], dilation=o["dilation"], groups=o["groups"])
    assert_close(kernels.conv_forward(x, weight, bias, **o), ty.detach().numpy(), length=LENGTH)
    check_gradients(
        ty,
        g,
        (tx, kernels.conv_input_gradient(g, weight, x.shape, **o)),
        (tweight, kernels.conv_kernel_gradient(x, g, weight.shape, **o)),
        (tbias, kernels.conv_bias_gradient(g)),
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # and that it costs a copy
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@given(seed=SEEDS, kernel=st.integers(1, 5), dilation=st.integers(1, 3), size=st.integers(1, 6))
@settings(max_examples=40)
def test_same_padding_at_stride_1(dimensions: int, seed: int, kernel: int, dilation: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = rng.uniform(-1, 1, (2, 2, *(size,) * dimensions)), rng.uniform(-1, 1, (3, 2, *(kernel,) * dimensions))
    conv = (F.conv1d, F.conv2d, F.conv3d)[dimensions - 1]
    expected = conv(torch.from_numpy(x), torch.from_numpy(weight), padding="same", dilation=dilation)
    y = kernels.conv_forward(x, weight, padding="same", dilation=dilation)
    assert_close(y, expected.numpy(), length=LENGTH)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=40)
def test_max_pooling(dimensions: int, ceil_mode: bool, data: st.DataObject, seed: int) -> None:
    case: PoolCase = data.draw(pool_cases(dimensions, ceil_mode, like_torch=True))
    x = case.integers(seed).astype(np.float64)  # with ties: PyTorch's first of equals is ours
    tx = leaf(x)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dimensions - 1]
    before = [pair[0] for pair in case.padding]
    ty, indices = pool(tx, case.window, case.stride, before, ceil_mode=case.ceil_mode, return_indices=True)
    y, argmax = kernels.max_pool_forward(x, **case.options)
    np.testing.assert_array_equal(y, ty.detach().numpy())
    np.testing.assert_array_equal(argmax, indices.numpy())
    g = np.random.default_rng(seed).uniform(-1, 1, y.shape)
    check_gradients(ty, g, (tx, kernels.max_pool_backward(g, argmax, x.shape)))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@given(data=st.data(), seed=SEEDS, count_include_pad=st.booleans())
@settings(max_examples=40)
def test_average_pooling(
    dimensions: int, ceil_mode: bool, data: st.DataObject, seed: int, count_include_pad: bool
) -> None:
    case: PoolCase = data.draw(pool_cases(dimensions, ceil_mode, like_torch=True))
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, case.x_shape)
    tx = leaf(x)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dimensions - 1]
    before = [pair[0] for pair in case.padding]
    ty = pool(tx, case.window, case.stride, before, case.ceil_mode, count_include_pad)
    options = {**case.options, "count_include_pad": count_include_pad}
    assert_close(kernels.avg_pool_forward(x, **options), ty.detach().numpy(), length=LENGTH)
    g = rng.uniform(-1, 1, ty.shape)
    check_gradients(ty, g, (tx, kernels.avg_pool_backward(g, x.shape, **options)))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
@given(seed=SEEDS, slope=st.floats(0, 2))
@settings(max_examples=40)
def test_activations(name: str, seed: int, slope: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (3, 4)) * 10 ** rng.uniform(-3, 3, (3, 4))
    x[0, 0] = 0
    options = {"negative_slope": slope} if name == "leaky_relu" else {}
    tx = leaf(x)
    ty = getattr(torch, name, getattr(F, name))(tx, **options)
    y = getattr(kernels, f"{name}_forward")(x, **options)
    assert_close(y, ty.detach().numpy(), length=1)
    g = rng.uniform(-1, 1, x.shape)
    check_gradients(ty, g, (tx, getattr(kernels, f"{name}_backward")(g, y, **options)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@given(seed=SEEDS, images=st.integers(1, 9), classes=st.integers(1, 11), margin=st.floats(0.1, 3))
@settings(max_examples=40)
def test_losses(reduction: str, seed: int, images: int, classes: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    scores, target = rng.uniform(-3, 3, (images, classes)), rng.uniform(-3, 3, (images, classes))
    labels = rng.integers(0, classes, images)
    ts, tlabels = leaf(scores), torch.from_numpy(labels)
    # PyTorch divides its multi-class hinge loss by the number of classes.
    hinge = F.multi_margin_loss(ts, tlabels, margin=margin, reduction=reduction) * classes
    for expected, (loss, grad) in (
        (
            F.cross_entropy(ts, tlabels, reduction=reduction),
            kernels.softmax_cross_entropy(scores, labels, reduction=reduction),
        ),
        (hinge, kernels.hinge(scores, labels, margin=margin, reduction=reduction)),
        (
            F.mse_loss(ts, torch.from_numpy(target), reduction=reduction),
            kernels.mean_squared_error(scores, target, reduction=reduction),
        ),
    ):
        assert_close(loss, expected.detach().numpy(), length=LENGTH)
        # "none": our gradient is that of the losses' sum.
        check_gradients(expected, np.ones(expected.shape), (ts, grad))


@pytest.mark.parametrize("spatial", [(), (5,), (3, 4), (2, 3, 2)])
@given(seed=SEEDS, images=st.integers(2, 5), channels=st.integers(1, 4), momentum=st.floats(0, 1))
@settings(max_examples=30)
def test_batch_norm(spatial: tuple[int, ...], seed: int, images: int, channels: int, momentum: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (images, channels, *spatial)
    x, g = rng.uniform(-1, 1, shape), rng.uniform(-1, 1, shape)
    weight, bias, mean = (rng.uniform(-1, 1, channels) for _ in range(3))
    var = rng.uniform(0.5, 2, channels)
    # Away from a variance of nearly zero, where every rounding error is blown up by 1 / sqrt(eps).
    x[0], x[1] = -1, 1
    for training in (True, False):
        tx, tweight, tbias = leaf(x), leaf(weight), leaf(bias)
        tmean, tvar = torch.tensor(mean), torch.tensor(var)
        ty = F.batch_norm(tx, tmean, tvar, tweight, tbias, training=training, momentum=momentum, eps=1e-3)
        y, saved = kernels.batch_norm_forward(
            x, weight, bias, mean, var, training=training, momentum=momentum, eps=1e-3
        )
        assert_close(y, ty.detach().numpy(), length=LENGTH)
        assert_close(mean, tmean.numpy(), length=LENGTH)
        assert_close(var, tvar.numpy(), length=LENGTH)
        if training:
            gradients = kernels.batch_norm_backward(g, x, weight, saved)
            check_gradients(ty, g, *zip((tx, tweight, tbias), gradients, strict=True))


RATES = st.floats(1e-4, 0.5)
DECAYS = st.sampled_from([0.0, 0.01, 0.3])


@given(seed=SEEDS, lr=RATES, momentum=st.sampled_from([0.0, 0.5, 0.9]), nesterov=st.booleans(), weight_decay=DECAYS)
@settings(max_examples=50)
def test_sgd(seed: int, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    options = {"lr": lr, "momentum": momentum, "nesterov": nesterov and momentum > 0, "weight_decay": weight_decay}
    rng = np.random.default_rng(seed)
    value, velocity = rng.uniform(-1, 1, 7), np.zeros(7)
    parameter = torch.nn.Parameter(torch.tensor(value))
    optimizer = torch.optim.SGD([parameter], **options)
    for _ in range(5):
        gradient = rng.uniform(-1, 1, 7)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        kernels.sgd_update(value, gradient, velocity, **options)
        assert_close(value, parameter.detach().numpy(), length=16)


@given(
    seed=SEEDS,
    lr=RATES,
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.9999)),
    weight_decay=DECAYS,
    decoupled=st.booleans(),
)
@settings(max_examples=50)
def test_adam(seed: int, lr: float, betas: tuple[float, float], weight_decay: float, decoupled: bool) -> None:
    options = {"lr": lr, "betas": betas, "eps": 1e-6, "weight_decay": weight_decay}
    rng = np.random.default_rng(seed)
    value, mean, square = rng.uniform(-1, 1, 7), np.zeros(7), np.zeros(7)
    parameter = torch.nn.Parameter(torch.tensor(value))
    optimizer = (torch.optim.AdamW if decoupled else torch.optim.Adam)([parameter], **options)
    for step in range(1, 6):
        gradient = rng.uniform(-1, 1, 7)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        kernels.adam_update(value, gradient, mean, square, step=step, decoupled=decoupled, **options)
        assert_close(value, parameter.detach().numpy(), length=256)
