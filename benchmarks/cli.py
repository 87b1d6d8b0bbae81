"""The command line: `python -m benchmarks conv`, `train`, `launch`, `compile`, `estimate`, `tune`, `gpu-check`.

Exit status: 0 done; 1 a result was wrong, or a check failed; 2 bad input; 3 something became slower or wrong since
`--compare`; 130 Ctrl-C, after which the rows measured so far are shown and kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks import shapes
from benchmarks.errors import BenchmarkError
from benchmarks.recorder import Recorder
from benchmarks.session import SLOWER, selected, session
from benchmarks.telling import tell
from cnn.kernels.precision import FLOAT32, PRECISIONS
from cnn.models import MODELS

# With --quick, of a pass and provider.
QUICK_SECONDS = 0.02


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, `sys.argv` if none is given, and return the exit status."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except BenchmarkError as error:
        tell(f"benchmarks {parsed.command}: error: {error}")
        return 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, side by side with others.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_conv(commands)
    add_train(commands)
    add_launch(commands)
    add_compile(commands)
    add_estimate(commands)
    add_tune(commands)
    add_gpu_check(commands)
    return parser


def add_conv(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    conv = commands.add_parser("conv", help="every pass of convolutions", description="Every pass of convolutions.")
    add_cases(conv)
    conv.add_argument("--seconds", type=_positive, default=0.5, help="for each pass and provider (default: 0.5)")
    add_common(conv, plot=True)
    conv.set_defaults(run=run_conv)


def add_cases(parser: argparse.ArgumentParser) -> None:
    suites, default = ", ".join(shapes.SUITES), ", ".join(shapes.DEFAULT)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {suites} (default: {default}, or none with --shape)"
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="SHAPE",
        help="NxCxHxW:KxCxRxS:options, such as 64x1x28x28:6x1x5x5:padding=2,stride=1; may be given several times",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=PRECISIONS, default=FLOAT32, help="of convolutions (default: float32)")


def add_common(parser: argparse.ArgumentParser, plot: bool = False) -> None:
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the GPU if it can be used")
    add("--providers", metavar="NAMES", default="", help="with commas; default: all of the device that are installed")
    add("--compile", action="store_true", help="torch.compile takes part, too")
    add_output(parser)
    if plot:
        add("--plot", metavar="FILE", help="draw a roofline and bars (.png, .svg, .pdf; needs matplotlib)")


def add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="few images and runs: shows that it works, and times nothing well")
    add("--json", metavar="FILE", help="write every row as a line of JSON, as soon as it is measured")
    add("--markdown", metavar="FILE", help="write the tables as Markdown")
    add("--compare", metavar="OLD.json", help=f"against an earlier run; exit status {SLOWER} if something is slower")


def run_conv(parsed: argparse.Namespace) -> int:
    from benchmarks import conv, conv_table
    from benchmarks.providers import PROVIDERS

    cases = cases_of(parsed)
    providers = selected(parsed, PROVIDERS)
    about = [(provider.name, provider.about) for provider in providers]
    return session(
        parsed,
        lambda recorder: conv.measure(recorder, cases, providers, seconds=seconds_of(parsed), quick=parsed.quick),
        lambda rows: conv_table.tables(rows, about),
    )


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train",
        help="training steps of whole networks",
        description="Training steps, inference of one image, peak memory, and time to an accuracy.",
    )
    add = train.add_argument
    add("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(MODELS)} (default: all)")
    add("--seconds", type=_positive, default=2.0, help="for each network and provider (default: 2)")
    add("--no-memory", action="store_true", help="leave out the peak memory, which takes a process for each row")
    add("--no-accuracy", action="store_true", help="leave out the time to an accuracy, which takes a minute")
    add_common(train)
    train.set_defaults(run=run_train)


def run_train(parsed: argparse.Namespace) -> int:
    from benchmarks import accuracy, memory, side_by_side, train
    from benchmarks.networks import NETWORKS, Network
    from benchmarks.trainers import TRAINERS

    networks = [Network.named(name, parsed.quick) for name in dict.fromkeys(parsed.networks or NETWORKS)]
    trainers = selected(parsed, TRAINERS)
    about = [(trainer.name, trainer.about) for trainer in trainers]

    def measure(recorder: Recorder) -> None:
        with_memory = not parsed.no_memory and memory.possible(trainers[0].device)
        train.measure(recorder, networks, trainers, seconds=seconds_of(parsed), with_memory=with_memory)
        if not parsed.no_accuracy:
            accuracy.measure(recorder, trainers, parsed.quick)

    return session(parsed, measure, lambda rows: side_by_side.tables(rows, about))


def add_launch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    launch = commands.add_parser(
        "launch",
        help="cost of a call, a launch and a step's launches",
        description="Cost of a call, and on a GPU of a launch and of a step's launches.",
    )
    launch.add_argument("--seconds", type=_positive, default=1.0, help="for each call (default: 1)")
    add_common(launch)
    launch.set_defaults(run=run_launch)


def run_launch(parsed: argparse.Namespace) -> int:
    from benchmarks import launch, side_by_side
    from benchmarks.networks import Network
    from benchmarks.trainers import TRAINERS

    trainers = selected(parsed, [each for each in TRAINERS if each.name in launch.PROVIDERS])
    with_torch = any(not trainer.ours for trainer in trainers)
    device = trainers[0].device
    return session(
        parsed,
        lambda recorder: launch.measure(recorder, device, with_torch, seconds_of(parsed), Network.all(parsed.quick)),
        side_by_side.tables,
    )


def add_compile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compiling = commands.add_parser(
        "compile",
        help="time before the first step, cold and warm",
        description="Time before the first step, with nothing compiled and from the cache; CUDA kernels without a GPU.",
    )
    compiling.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(MODELS)} (default: lenet5)")
    compiling.add_argument("--repeats", type=_count, default=3, help="processes for each figure (default: 3)")
    compiling.add_argument("--compile", action="store_true", help="torch.compile takes part, too")
    add_output(compiling)
    compiling.set_defaults(run=run_compile)


def run_compile(parsed: argparse.Namespace) -> int:
    from benchmarks import compilation, side_by_side
    from benchmarks.networks import Network

    networks = [Network.named(name).name for name in dict.fromkeys(parsed.networks or ["lenet5"])]
    repeats = 1 if parsed.quick else parsed.repeats
    return session(
        parsed,
        lambda recorder: compilation.measure(recorder, networks, parsed.compile, repeats, parsed.quick),
        side_by_side.tables,
    )


def add_estimate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    estimate = commands.add_parser(
        "estimate",
        help="what convolutions would take on GPUs that are not here",
        description="ESTIMATES for an H100, A100, RTX 4090 and T4 from compiled code and, where ptxsim is on "
        "PYTHONPATH, what it counts. Nothing is timed.",
    )
    add_cases(estimate)
    add_precision(estimate)
    estimate.add_argument(
        "--step", metavar="NETWORK", help="instead: every launch of a training step, executed by vgpu and ptxsim"
    )
    estimate.add_argument("--quick", action="store_true", help="few images")
    estimate.add_argument("--markdown", metavar="FILE", help="write the table as Markdown")
    estimate.set_defaults(run=run_estimate)


def run_estimate(parsed: argparse.Namespace) -> int:
    from benchmarks import estimate, estimate_step, output
    from benchmarks.networks import Network
    from benchmarks.tables import show

    estimate.check()
    output.check(parsed.markdown)
    if parsed.step:
        estimate_step.check()
        network = Network.named(parsed.step, parsed.quick)
        found = [estimate_step.table(network, parsed.precision, estimate_step.parts(network, parsed.precision))]
    else:
        found = estimate.tables(list(estimate.estimates(cases_of(parsed), parsed.precision)))
    show(found)
    output.write_markdown(found, parsed.markdown)
    return 0


def add_tune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    tune = commands.add_parser(
        "tune",
        help="on a machine with a GPU: the fastest tile of each kernel, written down for later runs",
        description="The fastest tile of each kernel for every pass, measured on a GPU; `cnn` takes them from then on.",
    )
    add_cases(tune)
    add = tune.add_argument
    add("--seconds", type=_positive, default=0.2, help="for each pass and tile (default: 0.2)")
    add_precision(tune)
    add("--model", action="store_true", help="ESTIMATES for an H100 by the emulator ptxsim, without a GPU")
    add("--table", metavar="FILE", help="to write to (default: the user's table, which goes before the built-in one)")
    add_output(tune)
    tune.set_defaults(run=run_tune)


def run_tune(parsed: argparse.Namespace) -> int:
    from benchmarks import tune

    path = tune.check(parsed.model, parsed.table)
    cases = cases_of(parsed)

    def measure(recorder: Recorder) -> None:
        found = (
            tune.model(recorder, cases, parsed.precision)
            if parsed.model
            else tune.measure(recorder, cases, parsed.precision, seconds_of(parsed))
        )
        tune.write(path, found, tune.compute_capability(parsed.model))

    return session(parsed, measure, tune.tables)


def add_gpu_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "gpu-check",
        help="on a machine with a GPU: tests, parity, speed, one report to send back",
        description="Tests, parity of every kernel, convolutions and training on a GPU, in under ten minutes.",
    )
    check.add_argument("--report", metavar="FILE", default="gpu-check.md", help="(default: gpu-check.md)")
    check.add_argument("--quick", action="store_true", help="a little of everything")
    check.set_defaults(run=run_gpu_check)


def run_gpu_check(parsed: argparse.Namespace) -> int:
    from benchmarks import gpu_check

    return gpu_check.run(parsed.report, parsed.quick)


def cases_of(parsed: argparse.Namespace) -> list[shapes.Case]:
    suites = parsed.suites or ([] if parsed.shape else list(shapes.DEFAULT))
    return shapes.cases(suites, parsed.shape, parsed.quick)


def seconds_of(parsed: argparse.Namespace) -> float:
    return QUICK_SECONDS if parsed.quick else float(parsed.seconds)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value
