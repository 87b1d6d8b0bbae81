"""Numba for the CPU: float32 in one and two dimensions, every core, the full vector width.

The vector lanes of a convolution are images: `simd` has the register tiles, `layout` brings 16 images (or as many as
the machine has lanes) side by side, `conv` runs tiles over them, `threads` deals groups of images to the cores.
"""
