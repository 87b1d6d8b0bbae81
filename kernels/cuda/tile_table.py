"""Which tile a kernel takes for a layer: the one that a table says is fastest, else that of the kernel's own rule.

A table is a CSV file with a row for each kernel, compute capability and layer:

    kernel,sm,layer,tile,origin
    conv_product,90,images=128 groups=1 ... stride=1x1,rows=64 columns=64 depth=16 side=8 parts=1,"measured: ..."

The user's table (`CNN_TILES`, else numba-cnn/tiles.csv in the user's configuration folder), which `python -m benchmarks
tune` writes, goes before the one that comes along. A table with a mistake in it is reported and ignored as a whole; so
is a row whose tile its kernel cannot take. Without a GPU there is the rule only, and nothing is read.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache, wraps
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from cnn.kernels.cuda.compiler import SIMULATED
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.launch import compute_capability
from cnn.kernels.errors import BackendError

# How the origin of a row begins: timed on a GPU, or estimated from what an emulator counts.
ORIGINS = ("measured", "modelled")

SHIPPED = Path(__file__).with_suffix(".csv")


class IsTile(Protocol):
    """A dataclass of whole numbers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=IsTile)
P = TypeVar("P")

# Plans that are kept, for each way of making one: far more than a network has layers.
MOST_PLANS = 1024


class TileTableError(ValueError):
    """A table that cannot be trusted. Names the file, the line, and what is wrong with it."""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """The tiles that a kernel can take for a layer, the one of its rule first."""

    kernel: str
    layer: str
    tiles: tuple[T, ...]


@dataclass(frozen=True)
class Row:
    """One row of a table; see there."""

    kernel: str
    sm: int
    layer: str
    tile: str
    origin: str

    @property
    def key(self) -> tuple[str, int, str]:
        return self.kernel, self.sm, self.layer


COLUMNS = tuple(field.name for field in fields(Row))

# What decides where the user's table is.
PLACES = ("CNN_TILES", "XDG_CONFIG_HOME", "HOME")

# Tiles to be taken whatever tables say: (kernel, layer) -> tile.
_forced: dict[tuple[str, str], str] = {}


def layer_of(phase: ConvPhase, images: int, phases: int = 1) -> str:
    """What decides how fast a tile is. What is computed along with the convolution does not. phases: in one launch, of
    which this is the longest.
    """
    down, right = phase.vertical, phase.horizontal
    parts = {
        "images": images,
        "groups": phase.groups,
        "sources": phase.sources,
        "targets": phase.targets,
        "taps": f"{down.taps}x{right.taps}",
        "plane": f"{down.size}x{right.size}",
        "stride": f"{down.stride}x{right.stride}",
        **({"phases": phases} if phases > 1 else {}),
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())


def text_of(tile: IsTile) -> str:
    return " ".join(f"{name}={value}" for name, value in asdict(tile).items())


def choose(choice: Choice[T]) -> T:
    """The tile that a table names for the GPU in use, else the first one."""
    rule = choice.tiles[0]
    if SIMULATED or len(choice.tiles) == 1:
        return rule
    by_text = {text_of(tile): tile for tile in choice.tiles}
    forced = _forced.get((choice.kernel, choice.layer))
    if forced is not None:
        return by_text[forced]
    sm = _compute_capability()
    if sm is None:
        return rule
    for path in (user_table(), SHIPPED):
        row = _rows(path).get((choice.kernel, sm, choice.layer))
        if row is not None and row.tile in by_text:
            return by_text[row.tile]
        if row is not None:
            _report(f"{path}: {row.kernel} has no tile {row.tile!r} for {row.layer}, only {', '.join(by_text)}")
    return rule


def kept(make: Callable[..., P]) -> Callable[..., P]:
    """`make`, whose arguments can be hashed, asked once for each: a plan takes ten times as long as its launches.

    What `choose` goes by is part of the question, so that a plan with other tiles is made where that has changed.
    """

    @lru_cache(maxsize=MOST_PLANS)
    def made(_state: Hashable, *arguments: Any) -> P:
        return make(*arguments)

    @wraps(make)
    def kept_plan(*arguments: Any) -> P:
        return made(_state(), *arguments)

    return kept_plan


def _state() -> Hashable:
    """What the answer of `choose` depends on beside the layer."""
    return None if SIMULATED else _compute_capability(), *map(os.environ.get, PLACES), *_forced.items()


@contextmanager
def forced(choice: Choice[T], tile: T) -> Iterator[None]:
    """`choose` answers `tile` meanwhile, also without a GPU."""
    _forced[choice.kernel, choice.layer] = text_of(tile)
    try:
        yield
    finally:
        del _forced[choice.kernel, choice.layer]


def user_table() -> Path:
    chosen, config, _home = map(os.environ.get, PLACES)
    if chosen:
        return Path(chosen)
    return Path(config or Path.home() / ".config") / "numba-cnn" / "tiles.csv"


def read(path: Path) -> dict[tuple[str, int, str], Row]:
    """The rows of a table, none where there is no file. Raises `TileTableError`."""
    if not path.exists():
        return {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TileTableError(f"{path} cannot be read: {error}") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise TileTableError(f"{path} must begin with the line {','.join(COLUMNS)}")
    rows: dict[tuple[str, int, str], Row] = {}
    for number, line in enumerate(lines[1:], 2):
        row = _row(f"{path}, line {number}", line)
        if row.key in rows:
            raise TileTableError(f"{path}, line {number}: a second row for {row.kernel}, sm {row.sm}, {row.layer}")
        rows[row.key] = row
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    """Make `path` a table of `rows`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(rows, key=lambda row: row.key):
            writer.writerow(asdict(row).values())


def _row(where: str, line: list[str]) -> Row:
    if len(line) != len(COLUMNS):
        raise TileTableError(f"{where}: must have {len(COLUMNS)} values, {','.join(COLUMNS)}, got {len(line)}")
    kernel, sm, layer, tile, origin = line
    if not sm.isdecimal():
        raise TileTableError(f"{where}: sm must be a compute capability such as 90 for 9.0, got {sm!r}")
    if not origin.startswith(ORIGINS):
        raise TileTableError(f"{where}: origin must begin with {' or '.join(ORIGINS)}, got {origin!r}")
    return Row(kernel, int(sm), layer, tile, origin)


@cache
def _rows(path: Path) -> dict[tuple[str, int, str], Row]:
    """Read once, at the first launch that asks."""
    try:
        return read(path)
    except TileTableError as error:
        _report(f"{error}. The whole table is ignored")
        return {}


def _report(text: str) -> None:
    warnings.warn(f"tiles: {text}; mend it or delete it, or write it anew: python -m benchmarks tune", stacklevel=2)


def _compute_capability() -> int | None:
    try:
        return compute_capability()
    except BackendError:
        return None
