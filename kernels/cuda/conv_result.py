"""What becomes of the sums of a convolution: bias, activation or derivative, pooling, and where they are written.

Four sums in a row, of one channel, are those of four pixels in a row. Where the phase is pooled these are a window.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda.compiler import device, int32, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_windows import first_maximum, positions
from cnn.kernels.cuda.intrinsics import load4, store2, store4


@device
def identity(x):
    return x


@device
def gradient_itself(g, _y):
    return g


def derivative(name: str | None) -> Any:
    """The device function (g, y) -> g * act'(y) of an activation, by its output y."""
    return gradient_itself if name is None else getattr(activations, f"{name}_gradient")


def activation(name: str | None) -> Any:
    """The device function z -> act(z)."""
    return identity if name is None else getattr(activations, name)


def maximum_writer(phase: ConvPhase) -> Any:
    """The device function that writes the maximum of a window and where it stands in the plane.

    Arguments: target, places, sums, e, bias; at: the index to write at; i, j: the window's first element.
    """
    activate = activation(phase.activation)
    WIDTH = phase.target_size[1]

    @device
    def maximum(target, places, sums, e, bias, at, i, j):
        a, b = activate(sums[e] + bias), activate(sums[e + 1] + bias)
        c, d = activate(sums[e + 2] + bias), activate(sums[e + 3] + bias)
        value, place = first_maximum(a, b, c, d)
        target[at] = value
        places[at] = int32((i + (place >> uint32(1))) * uint32(WIDTH) + j + (place & uint32(1)))

    return maximum


def writer(phase: ConvPhase) -> Any:
    """The device function that writes sums[e .. e + 3], of pixels first .. first + 3 of the batch and one channel.

    Arguments: target, places, inputs, sums, e, bias, channel (of all groups), first, pixels (of the batch). places
    takes the flat index of each maximum; inputs holds what the targets are the gradients of, where that needs a
    derivative.
    """
    CHANNELS = phase.groups * phase.targets
    PIXELS, WINDOWS = phase.pixels, phase.pixels // 4
    TARGET_H, TARGET_W = phase.target_size
    FIRST_H, STEP_H, FIRST_W, STEP_W = (
        phase.vertical.first,
        phase.vertical.step,
        phase.horizontal.first,
        phase.horizontal.step,
    )
    DERIVED = phase.target_derivative is not None
    activate, derive = activation(phase.activation), derivative(phase.target_derivative)
    position, maximum = positions(phase, phase.pooled), maximum_writer(phase)

    @device
    def window(target, places, _inputs, sums, e, bias, channel, first, pixels):
        if first < pixels:
            n, pixel = first // uint32(PIXELS), first % uint32(PIXELS)
            i, j = position(pixel)
            at = uint32((n * uint32(CHANNELS) + channel) * uint32(WINDOWS) + (pixel >> uint32(2)))
            maximum(target, places, sums, e, bias, at, i, j)

    @device
    def run(target, _places, inputs, sums, e, bias, channel, first, pixels):
        if first < pixels:
            n = first // uint32(PIXELS)
            at = (n * uint32(CHANNELS) + channel) * uint32(PIXELS) + first % uint32(PIXELS)
            a, b = activate(sums[e] + bias), activate(sums[e + 1] + bias)
            c, d = activate(sums[e + 2] + bias), activate(sums[e + 3] + bias)
            if DERIVED:
                s, t, u, v = load4(inputs, at)
                a, b, c, d = derive(a, s), derive(b, t), derive(c, u), derive(d, v)
            store4(target, at, a, b, c, d)

    @device
    def scattered(target, _places, inputs, sums, e, bias, channel, first, pixels):
        for p in range(4):
            pixel = first + uint32(p)
            if pixel < pixels:
                n = pixel // uint32(PIXELS)
                i, j = position(uint32(pixel % uint32(PIXELS)))
                at = (n * uint32(CHANNELS) + channel) * uint32(TARGET_H * TARGET_W)
                at += (i * uint32(STEP_H) + uint32(FIRST_H)) * uint32(TARGET_W)
                at += j * uint32(STEP_W) + uint32(FIRST_W)
                value = activate(sums[e + p] + bias)
                if DERIVED:
                    value = derive(value, inputs[at])
                target[at] = value

    if phase.pooled:
        return window
    # Four pixels in a row then lie in one image, side by side, at a multiple of 16 bytes.
    return run if PIXELS % 4 == 0 and phase.covers else scattered


def square_writer(phase: ConvPhase) -> Any:
    """The device function that writes a square of 2 x 2 pixels, sums[e .. e + 3], to the rows and columns there are.

    Arguments: target, places, inputs, sums, e, bias, plane (of an image and channel), down, right (of the square, in
    squares). places and inputs as for `writer`.
    """
    ROWS, COLUMNS = phase.vertical.size, phase.horizontal.size
    TARGET_H, TARGET_W = phase.target_size
    FIRST_H, STEP_H, FIRST_W, STEP_W = (
        phase.vertical.first,
        phase.vertical.step,
        phase.horizontal.first,
        phase.horizontal.step,
    )
    DERIVED = phase.target_derivative is not None
    # The pixels of a row then lie side by side, at a multiple of 8 bytes.
    PAIRS = phase.covers and TARGET_W % 2 == 0
    WHOLE_H, WHOLE_W = ROWS % 2 == 0, COLUMNS % 2 == 0
    activate, derive = activation(phase.activation), derivative(phase.target_derivative)
    maximum = maximum_writer(phase)

    @device
    def window(target, places, _inputs, sums, e, bias, plane, down, right):
        at = uint32((plane * uint32(ROWS // 2) + down) * uint32(COLUMNS // 2) + right)
        maximum(target, places, sums, e, bias, at, uint32(down * uint32(2)), uint32(right * uint32(2)))

    @device
    def square(target, _places, inputs, sums, e, bias, plane, down, right):
        for p in range(2):
            i = uint32(down * uint32(2) + uint32(p))
            if WHOLE_H or i < uint32(ROWS):
                at = (plane * uint32(TARGET_H) + i * uint32(STEP_H) + uint32(FIRST_H)) * uint32(TARGET_W)
                at = uint32(at + right * uint32(2 * STEP_W) + uint32(FIRST_W))
                a, b = activate(sums[e + p * 2] + bias), activate(sums[e + p * 2 + 1] + bias)
                if DERIVED:
                    a = derive(a, inputs[at])
                if WHOLE_W or right * uint32(2) + uint32(1) < uint32(COLUMNS):
                    if DERIVED:
                        b = derive(b, inputs[at + uint32(STEP_W)])
                    if PAIRS:
                        store2(target, at, a, b)
                    else:
                        target[at] = a
                        target[at + uint32(STEP_W)] = b
                else:
                    target[at] = a

    return window if phase.pooled else square
