"""The command line of the report."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from cnn.kernels.errors import BackendError
from cnn.kernels.precision import FLOAT32, PRECISIONS
from cnn.kernels.suites import SUITES

DESCRIPTION = "What the compilers made of every kernel of the built-in networks. Needs numba-cuda, and no GPU."


def main(arguments: list[str] | None = None) -> int:
    try:
        from cnn.kernels.cuda.compiler import SIMULATED, TARGETS
    except BackendError as error:
        print(f"codegen: {error}", file=sys.stderr)
        return 1
    parser = _parser(TARGETS)
    options = parser.parse_args(arguments)
    if SIMULATED:
        print("codegen: the simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM", file=sys.stderr)
        return 1
    from cnn.kernels.cuda.codegen import tables
    from cnn.kernels.cuda.codegen.launches import training_step
    from cnn.kernels.cuda.codegen.rows import rows
    from cnn.kernels.cuda.tensor import FIRST

    precision = options.precision
    targets = options.sm or [sm for sm in TARGETS if precision == FLOAT32 or sm >= FIRST]
    if precision != FLOAT32 and min(targets) < FIRST:
        parser.error(f"--precision {precision} is for tensor cores of --sm {FIRST} and later, got {min(targets)}")
    suites = list(SUITES) if options.suite == "all" else [options.suite]
    estimates: list[Any] = []
    try:
        if options.estimate:
            from cnn.kernels.cuda.codegen.estimate import estimates_of

            estimates = [estimate for suite in suites for estimate in estimates_of(suite, precision)]
        kernels = rows(suites, targets, precision=precision)
    except BackendError as error:
        print(f"codegen: {error}", file=sys.stderr)
        return 1
    steps = {suite: training_step(SUITES[suite].computed_in(precision)) for suite in suites}
    if options.json:
        launched = {
            suite: [{"layer": work.layer, "purpose": work.purpose, "name": work.name} for work in step]
            for suite, step in steps.items()
        }
        figures = [{**asdict(estimate), "ratio": estimate.ratio} for estimate in estimates]
        print(json.dumps({"rows": list(map(asdict, kernels)), "steps": launched, "estimates": figures}, indent=1))
        return 0
    print(tables.kernels(kernels))
    for suite, step in steps.items():
        print(tables.step(suite, SUITES[suite].batch, step))
    if estimates:
        print(tables.estimates(estimates))
    return 0


def _parser(targets: tuple[int, ...]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m cnn.kernels.cuda.codegen", description=DESCRIPTION)
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all", help="whose layers (default: all)")
    parser.add_argument(
        "--sm",
        type=int,
        nargs="+",
        choices=targets,
        metavar="CC",
        help=f"compute capabilities, 90 for 9.0, of {', '.join(map(str, targets))} (default: all that serve it)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default=FLOAT32, help="of convolutions (default: float32)")
    parser.add_argument("--json", action="store_true", help="rows, launches of a step and estimates as JSON")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="also estimate times on an H100; needs the emulator ptxsim on PYTHONPATH",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
