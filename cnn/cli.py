"""The command line: `cnn train`, `cnn evaluate`, `cnn predict`, `cnn info`; also as `python -m cnn`.

Here are the options and how errors are told; what the commands do is in `cnn.runs.commands`, imported only when one
runs, so that `cnn --help` answers at once.

Exit status: 0 done; 1 failed; 2 a wrong option or setting; 128 + n ended by signal n (130: Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cnn.kernels import DTypeError
from cnn.kernels.precision import PRECISIONS
from cnn.models import MODELS
from cnn.runs.config import AUGMENTATIONS, DEVICES, OPTIMIZER_DEFAULTS, OPTIMIZERS, SCHEDULES, ConfigError, TrainConfig

# What goes wrong outside of the program, said in words where it is raised. All else is a bug and keeps its traceback.
EXPECTED = (ValueError, OSError, RuntimeError, DTypeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, `sys.argv` if none is given, and return the exit status."""
    parsed = build_parser().parse_args(arguments)
    try:
        status = _run(parsed)
        sys.stdout.flush()  # while its errors can still be told
        return status
    except ConfigError as error:
        return _fail(parsed, error, 2)
    except KeyboardInterrupt:
        print(f"cnn {parsed.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output is gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NotImplementedError, RecursionError):
        raise  # RuntimeErrors by birth, bugs by nature
    except MemoryError as error:
        hint = "a smaller --batch-size needs less" if parsed.command == "train" else "--device cpu uses the host's"
        return _fail(parsed, f"not enough memory ({hint}): {error}", 1)
    except EXPECTED as error:
        return _fail(parsed, error, 1)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cnn", description="Train small convolutional networks, and use them.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_train(commands)
    evaluate = commands.add_parser("evaluate", help="test a trained network", description="Test a trained network.")
    evaluate.add_argument("run", metavar="RUN", help="run folder, as cnn train wrote it")
    evaluate.add_argument("--data", help="other data than the run's: a name or a path, as for cnn train")
    _add_device(evaluate)
    predict = commands.add_parser(
        "predict",
        help="say what is on pictures",
        description="Say what is on pictures: the three most probable classes of each. Pictures may have any size and "
        "mode: transparency is composited on white, the aspect is kept, the rest is filled with the border's mean.",
    )
    predict.add_argument("run", metavar="RUN", help="run folder, as cnn train wrote it")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="picture file")
    predict.add_argument(
        "--invert",
        choices=("auto", "yes", "no"),
        default="auto",
        help="swap dark and light; auto: in grey pictures whose border is light where that of the training images was "
        "dark, or the other way round (default: auto)",
    )
    _add_device(predict)
    info = commands.add_parser(
        "info",
        help="versions, processor, GPU; what a training step launches",
        description="Versions, processor, threads, where compiled code is kept, GPU or why none, what to install.",
    )
    info.add_argument(
        "--plan",
        metavar="MODEL",
        help="instead: every launch of a training step on a GPU (kernel, tile, grid, bytes, operations), for "
        f"{', '.join(MODELS)} or file.py:function; needs numba-cuda, and no GPU",
    )
    info.add_argument("--batch-size", type=int, metavar="N", help="of that step (default: 64, or the network's own)")
    info.add_argument("--image", metavar="CxHxW", help="its images (default: 1x28x28, or the network's own)")
    info.add_argument("--classes", type=int, metavar="N", help="(default: 10)")
    info.add_argument("--precision", choices=PRECISIONS, help="of its convolutions (default: what the layers say)")
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network; without options LeNet-5 on MNIST. Ctrl-C ends a run with a checkpoint.",
        # Only what was given is in the namespace: TrainConfig has the defaults, and --resume must know.
        argument_default=argparse.SUPPRESS,
    )
    defaults = TrainConfig()
    rates = ", ".join(f"{values['lr']:g} for {name}" for name, values in OPTIMIZER_DEFAULTS.items())
    decays = ", ".join(f"{values['weight_decay']:g} for {name}" for name, values in OPTIMIZER_DEFAULTS.items())
    add = train.add_argument
    add("--model", help=f"{', '.join(MODELS)} or file.py:function, called as function((C, H, W), classes) "
        f"(default: {defaults.model})")  # fmt: skip
    add("--data", help="mnist, fashion-mnist, cifar10, or a path: an .npz file, a folder of IDX or CIFAR files, of "
        f"images by class (default: {defaults.data})")  # fmt: skip
    add("--epochs", type=int, metavar="N", help=f"(default: {defaults.epochs})")
    add("--batch-size", type=int, metavar="N", help=f"(default: {defaults.batch_size})")
    add("--optimizer", choices=OPTIMIZERS, help=f"(default: {defaults.optimizer})")
    add("--lr", type=float, metavar="RATE", help=f"learning rate, the peak one of one-cycle (default: {rates})")
    add("--momentum", type=float, help=f"of sgd, with Nesterov's step (default: {defaults.momentum:g})")
    add("--weight-decay", type=float, metavar="FACTOR", help=f"(default: {decays})")
    add("--schedule", choices=SCHEDULES, help="of the learning rate, set anew after every step; step: a tenth after "
        f"each third of the training (default: {defaults.schedule})")  # fmt: skip
    add("--augment", choices=AUGMENTATIONS, action="append", help="change training images at random: crop (padded by "
        "4 pixels), flip (left to right), shift (by up to 2 pixels); may be given several times")  # fmt: skip
    add("--target-accuracy", type=float, metavar="A", help="stop after the epoch that reaches it on the test images")
    add("--seed", type=int, metavar="N", help=f"decides every random number (default: {defaults.seed})")
    add("--device", choices=DEVICES, help=f"auto: the GPU if it can be used (default: {defaults.device})")
    add("--deterministic", action="store_true", help="the same bits in every run on a GPU, too, a little slower")
    add("--no-graph", dest="graph", action="store_false", help="launch every kernel of every step on a GPU")
    add("--precision", choices=PRECISIONS, help="let tensor cores of a GPU round the factors of convolutions "
        "(default: float32, unless the model's layers say otherwise)")  # fmt: skip
    add("--limit", type=int, metavar="N", help="use the first N training images only")
    add("--checkpoint-every", type=int, metavar="STEPS", help=f"(default: {defaults.checkpoint_every}, and after each "
        "epoch)")  # fmt: skip
    add("--out", metavar="DIR", help="run folder to write, new or empty (default: runs/MODEL-NUMBER)")
    add("--resume", metavar="RUN", help="go on with a run that was stopped, with its own settings")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto: the GPU if it can be used")


def _run(parsed: argparse.Namespace) -> int:
    from cnn.runs import commands

    if parsed.command == "train":
        given = {name: value for name, value in vars(parsed).items() if name != "command"}
        out, resume = given.pop("out", None), given.pop("resume", None)
        return commands.train_command(given, out=out, resume=resume)
    if parsed.command == "evaluate":
        return commands.evaluate_command(parsed.run, parsed.data, parsed.device)
    if parsed.command == "predict":
        return commands.predict_command(parsed.run, parsed.images, parsed.invert, parsed.device)
    if parsed.plan is not None:
        return commands.plan_command(parsed.plan, parsed.image, parsed.classes, parsed.batch_size, parsed.precision)
    return commands.info_command()


def _fail(parsed: argparse.Namespace, error: Exception | str, status: int) -> int:
    print(f"cnn {parsed.command}: error: {error}", file=sys.stderr)
    return status
