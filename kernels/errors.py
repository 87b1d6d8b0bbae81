"""The three errors of `cnn.kernels`. Every message names the operation, the rule and the values that break it."""


class ShapeError(ValueError):
    """A shape, size or option that no convolution, pooling window or loss can have."""


class DTypeError(TypeError):
    """Something that is not an array, or an array of a dtype the operation does not take."""


class BackendError(RuntimeError):
    """A backend that is unknown, not installed, or not able to take these arrays."""
