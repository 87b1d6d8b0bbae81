"""The specification: every operation in NumPy, in any float dtype, in one to three dimensions, as short as its formula.

Nothing here is fast. The arguments were checked by the public functions, whose docstrings say what they are.
"""
