"""A convolution as the kernels see it: sources gathered for targets, for one phase of the targets.

    target[n, g, m, i, j] = bias[g, m] + sum over channels c and taps (a, b) of
                            weight[g, m, c, r(a), s(b)] * source[n, g, c, h(i) + a dh, w(j) + b dw]

The forward pass is one such phase with the input as source; the input gradient is one for each remainder of the input
position by the stride, with the output gradient as source (see `geometry.Phase`). All numbers here are constants of
the compiled kernel; only the number of images is not.

What stands behind and before the convolution is computed along (see `cnn.kernels.conv_block`): activation and pooling
of the targets; the way back through both where the sources are gradients; the way back through the activation that the
targets' own values came out of, where they are gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from cnn.kernels.errors import ShapeError
from cnn.kernels.geometry import ConvGeometry, Phase

# Indices are 32-bit: an array may have as many elements as they can tell apart, with room for a tile beyond the end.
LARGEST_ARRAY = 2**31 - 1


@dataclass(frozen=True)
class ConvPhase:
    """One phase. sources, targets: channels of one group. Weight strides count elements.

    pooled: of the targets only the maxima of 2 x 2 windows are wanted, and pixels that no window covers are left out;
    for the kernel gradient, the gradient of the targets is that of the maxima. source_pooled: the sources are gradients
    of such maxima. derivative: of the activation behind the convolution, by which a gradient is multiplied where it is
    read; target_derivative: by which the targets are multiplied.
    """

    groups: int
    sources: int
    targets: int
    source_size: tuple[int, int]
    target_size: tuple[int, int]
    vertical: Phase
    horizontal: Phase
    source_stride: int  # from one source channel's weights to the next
    target_stride: int
    kernel: tuple[int, int]
    flipped: bool
    bias: bool = False
    activation: str | None = None
    pooled: bool = False
    source_pooled: bool = False
    derivative: str | None = None
    target_derivative: str | None = None

    @property
    def pixels(self) -> int:
        """Targets in a plane of this phase."""
        return self.vertical.size * self.horizontal.size

    @property
    def groups_stride(self) -> int:
        """From one group's weights to the next."""
        return self.sources * self.targets * self.kernel[0] * self.kernel[1]

    @property
    def taps(self) -> int:
        return self.vertical.taps * self.horizontal.taps

    @property
    def alone(self) -> ConvPhase:
        """Without what is computed along: the same for kernels that have no part in it."""
        return replace(
            self, activation=None, pooled=False, source_pooled=False, derivative=None, target_derivative=None
        )

    @property
    def covers(self) -> bool:
        """Whether this phase is all of the target, so that its pixels lie as they are counted."""
        return self.pixels == self.target_size[0] * self.target_size[1]


def forward_phase(
    geometry: ConvGeometry, bias: bool, activation: str | None, *, pooled: bool = False, derivative: str | None = None
) -> ConvPhase:
    """Also what the kernel gradient goes by, with `derivative` and without an activation."""
    g = geometry.two_dimensional()
    taps = g.kernel[0] * g.kernel[1]
    channels = g.channels // g.groups
    vertical, horizontal = g.forward_phase(0), g.forward_phase(1)
    if pooled:
        vertical, horizontal = (replace(phase, size=phase.size // 2 * 2) for phase in (vertical, horizontal))
    return ConvPhase(
        groups=g.groups,
        sources=channels,
        targets=g.filters // g.groups,
        source_size=(g.input[0], g.input[1]),
        target_size=(g.output[0], g.output[1]),
        vertical=vertical,
        horizontal=horizontal,
        source_stride=taps,
        target_stride=channels * taps,
        kernel=(g.kernel[0], g.kernel[1]),
        flipped=g.flipped,
        bias=bias,
        activation=activation,
        pooled=pooled,
        derivative=derivative,
    )


def input_gradient_phases(
    geometry: ConvGeometry,
    *,
    source_pooled: bool = False,
    derivative: str | None = None,
    target_derivative: str | None = None,
) -> list[ConvPhase]:
    """The longest first: in one launch blocks of the short ones then fill the gaps in the end."""
    g = geometry.two_dimensional()
    taps = g.kernel[0] * g.kernel[1]
    channels = g.channels // g.groups
    phases = [
        ConvPhase(
            groups=g.groups,
            sources=g.filters // g.groups,
            targets=channels,
            source_size=(g.output[0], g.output[1]),
            target_size=(g.input[0], g.input[1]),
            vertical=vertical,
            horizontal=horizontal,
            source_stride=channels * taps,
            target_stride=taps,
            kernel=(g.kernel[0], g.kernel[1]),
            flipped=g.flipped,
            source_pooled=source_pooled,
            derivative=derivative,
            target_derivative=target_derivative,
        )
        for vertical, horizontal in product(g.input_gradient_phases(0), g.input_gradient_phases(1))
    ]
    return sorted(phases, key=lambda phase: -phase.taps * phase.pixels)


def check_sizes(operation: str, *shapes: tuple[int, ...]) -> None:
    """Raise `ShapeError` for an array with more elements than 32-bit indices reach."""
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        if size > LARGEST_ARRAY:
            raise ShapeError(
                f"{operation}: the cuda backend takes arrays of up to {LARGEST_ARRAY} elements, got {shape}"
            )
