"""README's example, run word for word."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_example_runs_and_learns(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 25
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    accuracy = float(re.fullmatch(r"test accuracy (0\.\d{4})\n", run.stdout).group(1))  # type: ignore[union-attr]
    assert accuracy > 0.96  # one epoch of LeNet-5: PyTorch's lands between 0.97 and 0.985 with this recipe
