"""`tune`: which tile each kernel is fastest with, for every pass of every layer; written down as a table of tiles.

On a GPU every tile takes its turns, verified and then timed as in `conv`. With `--model`, without a GPU, the emulator
ptxsim estimates each for an H100, and the rows say so. Another tile than that of the rule is written down where
it is faster by more than `MARGIN` and, where it was measured, by more than the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import conv, estimate, gpu, output
from benchmarks.clock import DISTURBED_NOTE
from benchmarks.errors import BenchmarkError
from benchmarks.numbers import time
from benchmarks.providers.ours_cuda import OursCUDA
from benchmarks.recorder import Recorder
from benchmarks.rows import OK, Row
from benchmarks.shapes import FORWARD, INPUT_GRADIENT, Case
from benchmarks.tables import Table
from benchmarks.telling import tell
from benchmarks.verify import Data, Expected

# What another tile must save.
MARGIN = 0.03

# Of the estimates, which are for no other GPU.
MODEL = "H100"

# cnn.kernels.cuda.tile_table.Choice and Row: imported late, since they need numba-cuda.
Choice = Any
Found = tuple[Choice, Any | None]


class Tiled(OursCUDA):
    """Our CUDA backend with one tile."""

    def __init__(self, choice: Choice, tile: Any, precision: str) -> None:
        super().__init__(precision=precision)
        self.name = _tables().text_of(tile)
        self.about = f"{choice.kernel} with this tile"
        self._choice, self._tile = choice, tile

    def prepare(self, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        compute = super().prepare(case, purpose, data)

        def call() -> Any:
            with _tables().forced(self._choice, self._tile):
                return compute()

        return call


def check(model: bool, path: str | None) -> Path:
    """Where the table goes. Raises `BenchmarkError` where nothing can be tuned, or the table there is damaged."""
    estimate.check("tiles")
    if not model and (reason := gpu.missing()) is not None:
        raise BenchmarkError(f"tune needs an NVIDIA GPU: {reason}; --model estimates without one")
    if model and not estimate.is_emulated():
        raise BenchmarkError("tune --model needs the emulator ptxsim: put its folder on PYTHONPATH")
    table = Path(path) if path else _tables().user_table()
    try:
        _tables().read(table)
    except _tables().TileTableError as error:
        raise BenchmarkError(f"{error}; mend or delete it first") from error
    if path:
        output.check(path)
    return table


def measure(recorder: Recorder, cases: Sequence[Case], precision: str, seconds: float) -> Iterator[Found]:
    """Each choice, and the row of its tile, None where it could not be measured."""
    for case in cases:
        data = Data.of(case)
        expected = Expected(case, data)
        tell(f"{case.name} {case.shape}")
        for purpose in case.passes:
            for choice in choices(case, purpose, precision):
                before = len(recorder.rows)
                providers = [Tiled(choice, tile, precision) for tile in choice.tiles]
                conv.measure_pass(recorder, case, purpose, providers, data, expected, seconds)
                yield choice, _fastest(choice, recorder.rows[before:])


def model(recorder: Recorder, cases: Sequence[Case], precision: str) -> Iterator[Found]:
    """As `measure`, of estimates."""
    for case in cases:
        tell(f"{case.name} {case.shape}")
        for purpose in case.passes:
            for choice in choices(case, purpose, precision):
                seconds: dict[str, float] = {}
                for tile in choice.tiles:
                    with _tables().forced(choice, tile):
                        if seconds and not _fills(case, purpose, precision):
                            continue
                        estimates = list(estimate.counted(case, purpose, precision))
                    text = _tables().text_of(tile)
                    seconds[text] = _known(next(each.seconds for each in estimates if each.gpu == MODEL))
                    more: dict[str, Any] = {"precision": precision, "note": f"ESTIMATE for an {MODEL}"}
                    recorder.measured(case.name, case.shape, purpose, text, "cpu", median=seconds[text], **more)
                best, rule = min(seconds, key=lambda text: seconds[text]), next(iter(seconds))
                if seconds[best] >= (1 - MARGIN) * seconds[rule]:
                    best = rule
                origin = f"modelled: {_ratio(seconds, best, rule)}, estimated by ptxsim for an {MODEL}"
                yield choice, _tables().Row(choice.kernel, estimate.SM, choice.layer, best, origin)


def _fills(case: Case, purpose: str, precision: str) -> bool:
    """Whether there are blocks enough for all multiprocessors, of which an estimate knows nothing."""
    launch, _ = estimate.calls(case, purpose, precision)[-1]
    return bool(math.prod(launch.grid) >= import_module("cnn.kernels.cuda.conv_product").FULL_GRID)


def choices(case: Case, purpose: str, precision: str) -> Iterator[Choice]:
    """Where a kernel of a pass can take more than one tile."""
    phases = import_module("cnn.kernels.cuda.conv_phase")
    products = import_module("cnn.kernels.cuda.conv_forward")
    gradients = import_module("cnn.kernels.cuda.conv_kernel_gradient")
    geometry = case.geometry
    if purpose == FORWARD:
        found = products.tiles([phases.forward_phase(geometry, case.bias, None)], case.images, precision)
    elif purpose == INPUT_GRADIENT:
        found = products.tiles(phases.input_gradient_phases(geometry), case.images, precision)
    else:
        found = [gradients.tiles(phases.forward_phase(geometry, True, None), case.images, precision)]
    return (choice for choice in found if choice is not None and len(choice.tiles) > 1)


def write(path: Path, found: Iterable[Found], sm: int) -> None:
    """Into the table at `path`, in place of what it said of these choices; also of those before an interruption."""
    rows = _tables().read(path)
    considered = better = 0
    try:
        for choice, row in found:
            rows.pop((choice.kernel, sm, choice.layer), None)
            considered += 1
            if row is not None:
                rows[row.key] = row
                better += row.tile != _tables().text_of(choice.tiles[0])
    finally:
        _tables().write(path, list(rows.values()))
        tell(f"{better} of {considered} tiles are better than the rule's: {path}")


def compute_capability(model: bool) -> int:
    """Of the table's rows."""
    return estimate.SM if model else int(import_module("cnn.kernels.cuda.launch").compute_capability())


def tables(rows: Sequence[Row]) -> list[Table]:
    """Every tile of every pass, the rule's first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.purpose, row.condition), []).append(row)
    lines = []
    for (layer, purpose, condition), tiles in groups.items():
        rule = tiles[0].median
        for number, row in enumerate(tiles):
            of_rule = f"{row.median / rule:.2f}" if row.median and rule else "-"
            seconds = "-" if row.median is None else time(row.median)
            which = row.provider + (" (rule)" if number == 0 else "")
            lines.append([layer, purpose, condition, which, seconds, of_rule, row.note])
    columns = ("layer", "pass", "cache", "tile", "median", "of the rule's", "note")
    return [Table("Tiles", columns, lines)]


def _fastest(choice: Choice, rows: Sequence[Row]) -> Any | None:
    warm = {row.provider: row for row in rows if row.status == OK and row.condition == gpu.WARM}
    rule = warm.get(_tables().text_of(choice.tiles[0]))
    if rule is None or any(DISTURBED_NOTE in row.note for row in warm.values()):
        return None
    best = min(warm.values(), key=lambda row: _known(row.median))
    if _known(best.median) >= (1 - MARGIN) * _known(rule.median) or _known(best.p80) >= _known(rule.p20):
        best = rule
    seconds = {name: _known(row.median) for name, row in warm.items()}
    origin = f"measured: {_ratio(seconds, best.provider, rule.provider)}, on {gpu.name()}, {date.today()}"
    return _tables().Row(choice.kernel, compute_capability(False), choice.layer, best.provider, origin)


def _ratio(seconds: Mapping[str, float], best: str, rule: str) -> str:
    if best == rule:
        return f"the rule's tile, of {len(seconds)}"
    return f"{seconds[rule] / seconds[best]:.2f} times as fast as the rule's tile"


def _known(seconds: float | None) -> float:
    assert seconds is not None
    return seconds


def _tables() -> Any:
    return import_module("cnn.kernels.cuda.tile_table")
