"""Pictures are drawn; what is on them was looked at once, by eye."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import limits, row
from PIL import Image

from benchmarks import plot
from benchmarks.errors import BenchmarkError

pytest.importorskip("matplotlib", reason="draws with matplotlib: pip install 'numba-cnn[bench]'")

ROWS = [
    *limits(flops=2e11, moved=3e10),
    row("ours", 0.01),
    row("torch", 0.02),
    row("onnxruntime", 0.03),
    row("ours", 0.05, layer="a.1", purpose="kernel gradient"),
    row("torch", 0.02, layer="a.1", purpose="kernel gradient"),
]


@pytest.mark.parametrize("rows", [ROWS, ROWS[2:], ROWS[2:3]], ids=["all", "without limits", "alone"])
def test_a_picture_is_drawn(rows: list[object], tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    plot.draw(rows, str(file))  # type: ignore[arg-type]
    with Image.open(file) as image:
        assert min(image.size) > 500
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (0xD5, 0x5E, 0x00) in colours  # ours


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    plot.draw(ROWS[:2], str(tmp_path / "plot.png"))
    assert not list(tmp_path.iterdir())


def test_other_formats_are_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"--plot picture.bmp: the name must end in .png, .svg, .pdf"):
        plot.check("picture.bmp")
