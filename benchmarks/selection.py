"""Which of those that could take part do: by name, or all of a device that are to be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from benchmarks.errors import BenchmarkError


class Candidate(Protocol):
    """A provider or a trainer."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    def missing(self) -> str | None: ...


C = TypeVar("C", bound=Candidate)


def named(candidates: Sequence[C], name: str) -> C:
    """The one of that name, which another process has chosen among the same."""
    return next(candidate for candidate in candidates if candidate.name == name)


def select(candidates: Sequence[C], names: Sequence[str], device: str, compiled: bool) -> tuple[list[C], list[str]]:
    """Those named, else all of the device; and a line for each that was wanted and is not to be had.

    compiled: whether torch.compile takes part without being named. Raises `BenchmarkError` for an unknown name, and
    where nobody is left.
    """
    known = {candidate.name: candidate for candidate in candidates}
    for name in names:
        if name not in known:
            raise BenchmarkError(f"there is no provider {name!r} here: the providers are {', '.join(known)}")
    wanted = [known[name] for name in dict.fromkeys(names)] or [
        candidate
        for candidate in candidates
        if candidate.device == device and (compiled or not candidate.name.endswith("compile"))
    ]
    if len({candidate.device for candidate in wanted}) > 1:
        raise BenchmarkError("providers of a CPU and of a GPU are not measured side by side: name those of one device")
    missing = {candidate.name: reason for candidate in wanted if (reason := candidate.missing()) is not None}
    left = [candidate for candidate in wanted if candidate.name not in missing]
    lines = [f"{name} skipped: {reason}" for name, reason in missing.items()]
    if not left:
        raise BenchmarkError(f"there is nobody to measure: {'; '.join(lines)}")
    return left, lines
