"""Benchmarks: `python -m benchmarks COMMAND`. A table that anyone can make again, and believe.

Every result is held against the reference in float64 first; only what is right gets a time. Providers are timed side by
side in one run, and where another one is faster, the table says so first.
"""
