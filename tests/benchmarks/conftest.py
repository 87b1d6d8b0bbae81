"""The command line, and what it is made of. Where an optional package is missing, its tests are skipped and say so."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # ptxsim, where it is there, asks for the CPU's features and leaves the file to the garbage collector.
    config.addinivalue_line("filterwarnings", "ignore:unclosed file .*cpuinfo:ResourceWarning")
