"""What threads tell each other without the interpreter: one word for each worker, in memory that all of them see.

    ASLEEP    the worker waits in the interpreter; waking it costs some 60 us
    READY     it watches its word, and has done all it was asked to
    ARMED     it has a job and waits for the word to begin
    RUNNING   it works

A worker that runs Python code needs the interpreter's lock, and so does the thread that gives it work. Were it told to
begin while that thread still runs Python, it would wait for the lock, asleep. So the compiled functions that share work
take `signals` as an argument and `begin(signals)` is the first thing they do, when the lock is free. Sources: C11's
memory order (release to write, acquire to read).
"""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from cnn.kernels.cpu.compile import inner, jit

ASLEEP, READY, ARMED, RUNNING = range(4)

# Words lie two cache lines apart: CPUs fetch pairs.
APART = 16

# Who waits lets others have the core after so many looks, about 60 us: longer than most gaps within a training step. A
# core that is given away is gone for some milliseconds, if any other program wants it.
LOOKS = 2**11
# A worker that finds nothing to do goes to sleep after so many rounds of them, about 0.2 ms.
ROUNDS = 2**2

NOBODY = np.zeros(0, np.int64)


@jit()
def begin(signals):
    """All who are armed begin."""
    for i in range(0, signals.size, APART):
        if _load(signals, i) == ARMED:
            _store(signals, i, RUNNING)


@jit()
def await_job(signals, i):
    """The worker is ready; True when it is to begin, False when it has fallen asleep."""
    _store(signals, i, READY)
    for look in range(1, LOOKS * ROUNDS + 1):
        if _load(signals, i) == RUNNING:
            return True
        _pause()
        if look % LOOKS == 0:
            _give_way()
    return not _exchange(signals, i, READY, ASLEEP) and _await_beginning(signals, i)


@inner()
def _await_beginning(signals, i):
    while _load(signals, i) != RUNNING:
        _pause()
    return True


@jit()
def arm(signals, i):
    """True where the worker was ready and waits now for the word; a sleeping one has to be woken, and runs at once."""
    if _exchange(signals, i, READY, ARMED):
        return True
    _store(signals, i, RUNNING)
    return False


@jit()
def await_workers(signals):
    """Until no worker is armed or runs."""
    for i in range(0, signals.size, APART):
        look = 0
        while _load(signals, i) >= ARMED:
            _pause()
            look += 1
            if look % LOOKS == 0:
                _give_way()


@intrinsic
def _load(_typing: Any, words: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_word(context, builder, signature, args), "acquire", 8)

    return types.int64(words, types.int64), codegen


@intrinsic
def _store(_typing: Any, words: Any, i: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _word(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.none(words, types.int64, types.int64), codegen


@intrinsic
def _exchange(_typing: Any, words: Any, i: Any, old: Any, new: Any) -> Any:
    """The word becomes `new` where it is `old`; whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = _word(context, builder, signature, args)
        return builder.extract_value(builder.cmpxchg(word, args[2], args[3], "acq_rel", "acquire"), 1)

    return types.boolean(words, types.int64, types.int64, types.int64), codegen


@intrinsic
def _pause(_typing: Any) -> Any:
    """Tells the core that this is a loop which waits. Without it the wait would slow the core's other thread down."""
    machine = platform.machine()

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        number = ir.IntType(32)
        if machine in ("x86_64", "AMD64"):
            pause = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            hint = ir.FunctionType(ir.VoidType(), [number])
            builder.call(cgutils.get_or_insert_function(builder.module, hint, "llvm.aarch64.hint"), [number(1)])
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def _give_way(_typing: Any) -> Any:
    """Another thread that waits for this core may run first. Where two of ours share one, nothing would happen else."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if os.name == "posix":
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "sched_yield"), [])
        return context.get_dummy_value()

    return types.none(), codegen


def _word(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])
