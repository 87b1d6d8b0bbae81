"""Which tile is taken: the rule's, a table's, and what becomes of a table that cannot be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels import ConvGeometry
from cnn.kernels.cuda import conv_forward, conv_kernel_gradient, conv_product, tile_table
from cnn.kernels.cuda.compiler import compile_kernel
from cnn.kernels.cuda.conv_phase import forward_phase, input_gradient_phases
from cnn.kernels.cuda.tile_table import Row, choose, forced, read, text_of, write
from cnn.kernels.suites import SUITES

IMAGES = 128
GEOMETRY = ConvGeometry.of("test", (IMAGES, 64, 16, 16), (64, 64, 3, 3), padding=1)
PHASE = forward_phase(GEOMETRY, True, None)
CHOICE = conv_product.tiles([PHASE], IMAGES)
RULE, OTHER, THIRD = CHOICE.tiles[:3]
HEADER = "kernel,sm,layer,tile,origin"


def row(**changes: object) -> Row:
    values = {"kernel": CHOICE.kernel, "sm": 90, "layer": CHOICE.layer, "tile": text_of(OTHER), "origin": "measured: x"}
    return Row(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the user's table would be, on a machine with an H100. There is none that comes along."""
    path = tmp_path / "tiles.csv"
    monkeypatch.setenv("CNN_TILES", str(path))
    monkeypatch.setattr(tile_table, "SHIPPED", tmp_path / "shipped.csv")
    monkeypatch.setattr(tile_table, "_compute_capability", lambda: 90)
    tile_table._rows.cache_clear()
    yield path
    tile_table._rows.cache_clear()


def test_without_a_table_it_is_the_rule(user: Path) -> None:
    assert choose(CHOICE) == RULE
    assert conv_product.choose_tile([PHASE], IMAGES) == RULE


def test_without_a_gpu_no_table_is_read(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(user, [row()])
    monkeypatch.setattr(tile_table, "_compute_capability", lambda: None)
    assert choose(CHOICE) == RULE


def test_a_row_decides_for_its_layer_and_gpu(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(user, [row()])
    assert conv_product.choose_tile([PHASE], IMAGES) == OTHER
    tile = dict(conv_forward.plan([PHASE], IMAGES).mains[0].kernel.tile)
    assert tile == asdict(OTHER)
    assert conv_product.choose_tile([PHASE], IMAGES + 1) == conv_product.tiles([PHASE], IMAGES + 1).tiles[0]
    monkeypatch.setattr(tile_table, "_compute_capability", lambda: 80)
    assert choose(CHOICE) == RULE


def test_the_kernel_gradient_has_rows_of_its_own(user: Path) -> None:
    choice = conv_kernel_gradient._tiles(PHASE, IMAGES)
    write(user, [row(), row(kernel=choice.kernel, tile=text_of(choice.tiles[1]))])
    assert conv_kernel_gradient.choose_tile(PHASE, IMAGES) == choice.tiles[1]


def test_the_users_table_goes_before_the_one_that_comes_along(user: Path) -> None:
    write(tile_table.SHIPPED, [row(tile=text_of(THIRD))])
    assert choose(CHOICE) == THIRD
    write(user, [row()])
    tile_table._rows.cache_clear()
    assert choose(CHOICE) == OTHER


def test_a_forced_tile_goes_before_both(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(user, [row()])
    monkeypatch.setattr(tile_table, "_compute_capability", lambda: None)
    with forced(CHOICE, THIRD):
        assert choose(CHOICE) == THIRD
    assert choose(CHOICE) == RULE


def test_a_plan_is_kept_while_it_would_be_made_the_same(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan() -> conv_forward.Plan:
        return conv_forward._plan(GEOMETRY, True, None, "float32")

    def tile() -> dict[str, int]:
        return dict(plan().mains[0].kernel.tile)

    first = plan()
    assert plan() is first
    assert tile() == vars(RULE)
    with forced(CHOICE, THIRD):
        assert tile() == vars(THIRD)
    assert plan() is first
    other = user.with_name("other.csv")
    write(other, [row()])
    monkeypatch.setenv("CNN_TILES", str(other))
    assert tile() == vars(OTHER)
    monkeypatch.setattr(tile_table, "_compute_capability", lambda: 80)
    assert tile() == vars(RULE)


LINE = f"{CHOICE.kernel},90,{CHOICE.layer},{text_of(OTHER)}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with the line kernel,sm,layer,tile,origin"),
        ("kernel,sm,tile\n", "must begin with the line kernel,sm,layer,tile,origin"),
        (f"{HEADER}\n{LINE}\n", "line 2: must have 5 values, kernel,sm,layer,tile,origin, got 4"),
        (f"{HEADER}\n{LINE.replace(',90,', ',9.0,')},measured: x\n", "line 2: sm must be a compute capability"),
        (f"{HEADER}\n{LINE},guessed\n", "line 2: origin must begin with measured or modelled, got 'guessed'"),
        (f"{HEADER}\n{LINE},measured: x\n{LINE},measured: y\n", "line 3: a second row for conv_product, sm 90"),
        (f'{HEADER}\n"{LINE}', "cannot be read"),
        (f"{HEADER}\n{LINE},measured: \xff\n", "cannot be read"),
    ],
)
def test_a_damaged_table_is_reported_once_and_ignored(user: Path, text: str, said: str) -> None:
    user.write_text(text, encoding="latin-1")
    with pytest.warns(UserWarning, match="The whole table is ignored") as caught:
        assert choose(CHOICE) == RULE
    assert str(user) in str(caught[0].message)
    assert said in str(caught[0].message)
    assert choose(CHOICE) == RULE


def test_a_tile_that_the_kernel_cannot_take_is_reported_and_ignored(user: Path) -> None:
    write(tile_table.SHIPPED, [row()])
    write(user, [row(tile="rows=65 columns=1 depth=8 side=8")])
    with pytest.warns(UserWarning, match="conv_product has no tile 'rows=65 columns=1 depth=8 side=8' for images=128"):
        assert choose(CHOICE) == OTHER


def test_what_is_written_is_read(user: Path) -> None:
    rows = [row(), row(sm=80, origin='measured: 1.2 times, "fast", on a GPU')]
    write(user, rows)
    assert read(user) == {each.key: each for each in rows}


def test_the_table_that_comes_along() -> None:
    """Every row is of a layer of a built-in network, and its tile one that the kernel can take."""
    choices = {}
    for suite in SUITES.values():
        for layer in suite.convolutions:
            geometry = layer.conv(suite.batch)
            there = forward_phase(geometry, layer.bias, None)
            found = [conv_kernel_gradient._tiles(there, suite.batch)]
            found += conv_forward.tiles([there], suite.batch)
            found += conv_forward.tiles(input_gradient_phases(geometry), suite.batch)
            choices.update({(choice.kernel, choice.layer): choice for choice in found})
    table = read(tile_table.SHIPPED)
    assert table
    for each in table.values():
        assert each.tile in [text_of(tile) for tile in choices[each.kernel, each.layer].tiles]


@pytest.mark.parametrize("targets", [16, 32, 64])
def test_every_tile_compiles_without_spills(targets: int) -> None:
    geometry = ConvGeometry.of("test", (IMAGES, 32, 16, 16), (targets, 32, 3, 3), padding=1)
    phase = forward_phase(geometry, True, None)
    launches = [conv_product.plan(phase, IMAGES, tile) for tile in conv_product.tiles([phase], IMAGES).tiles]
    for tile in conv_kernel_gradient._tiles(phase, IMAGES).tiles:
        launches.append(conv_kernel_gradient.plan(phase, IMAGES, False, tile).gradient)
    for launch in launches:
        binary = compile_kernel(launch.kernel, 90)
        assert binary.spill_bytes == binary.stack_bytes == 0, launch.kernel.tile
