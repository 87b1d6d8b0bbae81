"""The two halves of a data set, and the rule that makes them where a source comes undivided.

Every tenth image is for testing: positions 9, 19, 29, ... The rule needs no seed, so everyone who loads the
same files has the same split, and adding images at the end moves none of the earlier ones to the other side.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Split: TypeAlias = Literal["train", "test"]

HOLDOUT_PERIOD = 10


def check_split(split: str) -> None:
    """Raises ValueError unless `split` is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f'split is "train" or "test", not {split!r}')


def holdout(count: int, split: Split) -> NDArray[np.int64]:
    """Positions among `count` undivided items that belong to `split`, ascending, int64."""
    positions = np.arange(count, dtype=np.int64)
    for_testing = positions % HOLDOUT_PERIOD == HOLDOUT_PERIOD - 1
    chosen: NDArray[np.int64] = positions[for_testing if split == "test" else ~for_testing]
    return chosen
