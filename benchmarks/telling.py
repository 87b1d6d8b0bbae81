"""What a run says while it goes on: lines on stderr, so that stdout is the table alone."""

from __future__ import annotations

import sys


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
