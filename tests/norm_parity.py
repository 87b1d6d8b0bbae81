"""Batch normalisation against the reference: what the tests of the GPU and of the simulator have in common."""

from __future__ import annotations

from parity import check_parity, uniform

SHAPE = (5, 2, 11, 10)


def check_sum(training: bool, activation: str | None) -> None:
    """With what goes around the layer."""
    weight, bias, mean, var = (1.5 + uniform(SHAPE[1], seed=seed) for seed in range(4))
    given = {"x": uniform(*SHAPE), "weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    given |= {"training": training, "activation": activation, "around": uniform(*SHAPE, seed=9)}
    check_parity("batch_norm_forward", given, "running_mean", "running_var", length=64)
