"""The CPU backend as it is on machines with narrower vectors than this one's.

The width of a vector, and the number of registers, are fixed when the backend is imported: so in processes of their
own, which are told that the CPU lacks what it has. Without this only people with such a machine would find a fault.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# llvmlite says which features there are, to the backend and to Numba. A feature that needs a missing one must go, too,
# or LLVM turns the missing one on again.
NARROW = """
import sys
from llvmlite import binding

lanes, registers, gone = int(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3].split(","))
features = binding.get_host_cpu_features()
for name in features:
    if name.startswith(gone):
        features[name] = False
binding.get_host_cpu_features = lambda: features

# 64-bit Arm has 32 registers of 4 lanes: the same tables and tiles, here with some of a tile's sums in memory.
triple = binding.get_process_triple
if registers == 32:
    binding.get_process_triple = lambda: "aarch64-unknown-linux-gnu"
from cnn.kernels.cpu import simd
binding.get_process_triple = triple
assert (lanes, registers) == (simd.LANES, simd.REGISTERS), (simd.LANES, simd.REGISTERS)

# Whatever may be written past the caches is.
from cnn.kernels.cpu import simd_memory
simd_memory.LARGE = 0

sys.path[:0] = sys.argv[4:]
import test_conv_cpu as checks

for batch in (1, lanes - 1, lanes, lanes + 1, 2 * lanes + 1):
    for groups in (1, 3):
        checks.test_batches(batch, groups)
for filters in range(1, 10):
    checks.test_filters(filters, "convolution")
for width in range(1, 18):
    checks.test_output_widths(width, stride=1 + width % 2)
for length in (1, 5, 6, 7, 16, 17):
    checks.test_lengths_in_one_dimension(length, batch=lanes + 1)
for group_filters in (1, 2, 5):
    checks.test_groups(group_filters, group_channels=3)
checks.test_depthwise(7)
checks.test_strides_that_step_over_input(3)
checks.test_an_image_that_is_not_a_number_spoils_no_other(2)

import test_conv_ways as ways
for way in ways.CASES:
    ways.test_where_an_array_starts_does_not_change_a_bit(way, 1)
    with ways.forced(ways.WAYS[way]):
        checks.check_equal(ways.CASES[way])
for size in ((5, 7), (8, 9)):
    for channels in ((lanes, lanes), (lanes + 1, 3 * lanes - 1), (5 * lanes, 5 * lanes)):
        ways.test_winograd(size, channels, ((1, 1), (0, 2)), "convolution")
for width in (lanes, 2 * lanes - 1, 3 * lanes):
    for channels in ((3, 8), (6, 12)):
        ways.test_pixels_in_lanes(width, *channels, kernel=3)
ways.test_winograd_within_the_table(28)
print("all equal")
"""
AVX512 = "avx512,avx10,amx"
AVX = "avx,fma,f16c,vaes,vpclmulqdq,gfni,sha512,sm3,sm4,xop"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names features of x86 processors")
@pytest.mark.parametrize(("lanes", "registers"), [(8, 16), (4, 16), (4, 32)])
def test_exact_with_narrower_vectors(lanes: int, registers: int, tmp_path: Path) -> None:
    gone = AVX512 if lanes == 8 else f"{AVX512},{AVX}"
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", NARROW, str(lanes), str(registers), gone, str(here), str(here.parent)],
        # Numba's cache knows the features, but not the number of registers.
        env={**os.environ, "PYTHONWARNINGS": "error", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (result.returncode, result.stdout) == (0, "all equal\n"), result.stderr
