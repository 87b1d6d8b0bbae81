"""How a kernel gradient is computed, by whichever kernel."""

from __future__ import annotations

from dataclasses import dataclass

from cnn.kernels.cuda.launch import Launch


@dataclass(frozen=True)
class Plan:
    """gradient: arguments x, grad_output, winners, outputs, grad_weight, grad_bias, images, length of a run. With a
    workspace in place of both gradients where `deterministic`; add: arguments workspace, grad_weight, grad_bias, runs.
    """

    gradient: Launch
    run: int
    runs: int
    workspace: int  # elements, 0 where atomics are used
    add: Launch | None
