"""Pictures of a run: a roofline with every layer and pass as a point, and bars against the others."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conv_table import Duel, duels, median
from benchmarks.errors import BenchmarkError
from benchmarks.gpu import COLD
from benchmarks.limits import Limits
from benchmarks.rows import Row
from benchmarks.shapes import PASSES

KINDS = (".png", ".svg", ".pdf")
MARKERS = dict(zip(PASSES, "os^", strict=True))

# Okabe and Ito's colours, which people with any colour vision tell apart.
OURS, TORCH = "#D55E00", "#0072B2"
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def check(path: str) -> None:
    """Raises `BenchmarkError` without matplotlib, and for a name that has none of its formats."""
    if find_spec("matplotlib") is None:
        raise BenchmarkError("--plot needs matplotlib: pip install 'numba-cnn[bench]'")
    if Path(path).suffix.lower() not in KINDS:
        raise BenchmarkError(f"--plot {path}: the name must end in {', '.join(KINDS)}")


def draw(rows: Sequence[Row], path: str) -> None:
    """On a GPU, of the times with a cold cache."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = [duel for duel in duels(rows) if duel.condition in ("", COLD) and (duel.ours or duel.others)]
    if not found:
        return
    figure = Figure(figsize=(12, 6 + 0.32 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[5, 1 + 0.32 * len(found)])
    device = (found[0].ours or found[0].others[0]).device
    _roofline(above, found, Limits.of(rows, device))
    above.set_title(f"Convolution passes on {device}", loc="left")
    _bars(below, found)
    figure.savefig(path, dpi=120)


def _roofline(axes: Any, found: Sequence[Duel], limits: Limits | None) -> None:
    for purpose, marker in MARKERS.items():
        for label, colour, filled in (("PyTorch", TORCH, False), ("ours", OURS, True)):
            chosen = [duel.ours if filled else duel.torch for duel in found if duel.purpose == purpose]
            points = [(row.flops / row.bytes, row.flops / median(row) / 1e9) for row in chosen if row is not None]
            if points:
                face = colour if filled else "none"
                axes.scatter(*zip(*points, strict=True), marker=marker, edgecolors=colour, facecolors=face,
                             label=f"{label}, {purpose}")  # fmt: skip
    if limits is not None:
        flops = [row.flops / row.bytes for duel in found for row in (duel.ours, *duel.others) if row is not None]
        ridge = limits.flops / limits.bytes
        intensity = np.geomspace(min(*flops, ridge) / 2, max(*flops, ridge) * 2, 200)
        roof = np.minimum(limits.flops, intensity * limits.bytes) / 1e9
        label = f"limit: sgemm {limits.flops / 1e9:,.0f} GFLOP/s, copy {limits.bytes / 1e9:,.0f} GB/s"
        axes.plot(intensity, roof, color="0.3", label=label)
    axes.set(xscale="log", yscale="log", xlabel="operations per compulsory byte", ylabel="GFLOP/s")
    axes.grid(which="both", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(fontsize="small")


def _bars(axes: Any, found: Sequence[Duel]) -> None:
    """One group for each layer and pass, the longest bar is the fastest."""
    names = list(dict.fromkeys(row.provider for duel in found for row in duel.others))
    colours = dict(zip((name for name in names if name != "torch"), OTHERS * 3, strict=False))
    height = 0.8 / (1 + len(names))
    for number, name in enumerate(("ours", *names)):
        chosen = {}
        for place, duel in enumerate(found):
            row = duel.ours if name == "ours" else next((row for row in duel.others if row.provider == name), None)
            if row is not None:
                chosen[place - 0.4 + (number + 0.5) * height] = row.flops / median(row) / 1e9
        colour = {"ours": OURS, "torch": TORCH}.get(name) or colours[name]
        axes.barh(list(chosen), list(chosen.values()), height, color=colour, label=name)
    axes.set_yticks(range(len(found)), [f"{duel.layer}, {duel.purpose}" for duel in found])
    axes.set(xlabel="GFLOP/s", ylim=(len(found) - 0.4, -0.6))
    axes.legend(fontsize="small")
