"""Numba CUDA: kernels compiled by `compiler`, launched through CuPy, or run in Numba's simulator, by `launch`."""
