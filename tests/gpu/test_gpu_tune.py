"""`benchmarks tune` on a GPU: every tile's result is verified, and a table of tiles is taken from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnn.kernels import ConvGeometry

pytestmark = pytest.mark.gpu

SHAPE = (2, 32, 8, 8), (32, 32, 3, 3)


def test_tune(cupy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.cli import main

    table, rows = tmp_path / "tiles.csv", tmp_path / "rows.json"
    monkeypatch.setenv("CNN_TILES", str(table))
    shape = ":".join("x".join(map(str, size)) for size in SHAPE) + ":padding=1"
    assert main(["tune", "--shape", shape, "--quick", "--json", str(rows)]) == 0
    assert table.read_text().startswith("kernel,sm,layer,tile,origin\n")
    assert "of 3 tiles are better than the rule's" in capsys.readouterr().err
    # Of each of the three passes two tiles or more, in two states of the cache; none was wrong.
    assert len(rows.read_text().splitlines()) >= 12
    assert '"status": "ok"' in rows.read_text()
    assert '"status": "wrong"' not in rows.read_text()


def test_a_table_is_taken(cupy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnn.kernels.cuda import conv_product, tile_table
    from cnn.kernels.cuda.conv_phase import forward_phase
    from cnn.kernels.cuda.launch import compute_capability

    x, weight = SHAPE
    phase = forward_phase(ConvGeometry.of("test", x, weight, padding=1), False, None)
    choice = conv_product.tiles([phase], x[0])
    other = tile_table.text_of(choice.tiles[-1])
    row = tile_table.Row(choice.kernel, compute_capability(), choice.layer, other, "measured: here")
    monkeypatch.setenv("CNN_TILES", str(tmp_path / "tiles.csv"))
    tile_table.write(tile_table.user_table(), [row])
    assert len(choice.tiles) > 1
    assert conv_product.choose_tile([phase], x[0]) == choice.tiles[-1]
